"""The ramp: moves surfaces from the mesh to the model step by step, by the gate's verdicts."""
