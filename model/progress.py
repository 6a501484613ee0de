"""Reports of progress by long work."""

from typing import Protocol


class Progress(Protocol):
    """A callback for progress. done, total: in the stage's own units."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def silent(stage: str, done: int, total: int) -> None:
    """The Progress that ignores reports."""
