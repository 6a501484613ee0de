"""A page that shows the findings of a comparison live, surface by surface. It is read-only."""
