"""The reference mesh beside the model, and the proxy between them."""
