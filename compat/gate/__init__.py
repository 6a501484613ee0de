"""The gate: whether the evidence lets a model answer in the mesh's place."""
