"""Answers of mesh and model compared while callers are served: sampled on the server's loop, measured in a process of
their own."""
