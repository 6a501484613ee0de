"""The live comparison of mesh and model: pairs are sampled on the server's loop and measured in a separate process."""
