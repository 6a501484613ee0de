"""The headline: one snapshot served by the mesh and by the model, in turn on the same cores."""
