"""The server, its runner and its commands."""
