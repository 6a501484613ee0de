"""Reports of a comparison: lines for a terminal, one HTML file, JSON."""
