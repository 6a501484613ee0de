"""Errors of a mapping, with their places."""

from __future__ import annotations

from pathlib import Path

from meshfold.model.errors import InvalidConfig


class InvalidMapping(InvalidConfig):
    """A mapping that cannot be served: file, line, key, what was expected and the remedy."""

    def __init__(self, file: Path, line: int, key: str, message: str) -> None:
        super().__init__(f"{file}:{line}: {key}: {message}")
        self.line = line


class Misfit(Exception):
    """An error in one part of a mapping, without its place; Part.located() turns it into an InvalidMapping."""
