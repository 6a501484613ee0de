"""Cost of a served request beside its forward pass."""
