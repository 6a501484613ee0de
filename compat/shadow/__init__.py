"""Shadow comparison: pairs of answers to one request, measured, explained and reported."""
