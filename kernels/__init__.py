"""Functions of tensors: what the model's forward pass is made of."""
