"""Training of item vectors, a user tower and an OverArch from interactions."""
