"""Vectors as integers, and clusters of them."""
