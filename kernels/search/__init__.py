"""Search: clusters, scores, and the best in order."""
