"""The gate: whether there is evidence enough to let a model answer in the mesh's place."""
