"""What callers leave out of users, filled in from where it is kept: histories and features by user id."""
