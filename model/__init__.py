"""The retrieval model, one nn.Module, and its builder."""
