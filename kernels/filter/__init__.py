"""Filters: which items are eligible."""
