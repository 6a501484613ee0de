"""What a served request costs beside its forward pass."""
