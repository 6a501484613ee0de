"""Catalogs and interactions: readers of tables, and generators."""
