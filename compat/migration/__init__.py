"""In front of a mesh: who answers, mesh or model, and how the one takes over from the other."""
