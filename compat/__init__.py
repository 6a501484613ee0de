"""Adapters between wire protocols and the model's Query and Candidates."""
