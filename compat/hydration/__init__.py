"""Hydration: fills in histories and features of users that callers name by an id alone."""
