"""What callers asked and who answered what, in files for later replay."""
