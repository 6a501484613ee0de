"""A comparison told to people and programs: lines for a terminal, one HTML file, JSON."""
