"""One nn.Module that retrieves, and what builds it."""
