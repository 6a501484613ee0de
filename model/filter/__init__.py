"""Filters, which select eligible items: expression, text form, program and index."""
