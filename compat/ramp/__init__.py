"""The ramp: moves surfaces from the mesh to the model step by step, as the gate says."""
