"""A page that shows live what a comparison finds, surface by surface; it switches nothing."""
