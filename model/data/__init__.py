"""Data in: catalogs and interactions, read or generated."""
