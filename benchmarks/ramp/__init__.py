"""Ramps shown and tried: from the mesh to serve, with faults planted, and killed at random moments."""
