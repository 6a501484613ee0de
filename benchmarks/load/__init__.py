"""Servers under load: overload, callers who do not behave, long runs, shadows."""
