"""Training: from interactions to item vectors, a user tower and an OverArch."""
