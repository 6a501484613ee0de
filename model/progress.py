"""How long work says how far it is, without knowing who shows it."""

from typing import Protocol


class Progress(Protocol):
    """Called with the name of a stage and how much of it is done, in the stage's own units."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def silent(stage: str, done: int, total: int) -> None:
    """Shows nothing."""
