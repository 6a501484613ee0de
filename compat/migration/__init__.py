"""The front of a mesh: decides whether mesh or model answers, and switches between them."""
