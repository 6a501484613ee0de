"""Counts rows and files skipped while pairs are read, by reason, with the first place of each."""

from __future__ import annotations

from collections import Counter


class Skipped:
    """Skipped rows and files. counted: numbers by reason. first: the first place of each reason."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, reason: str, where: str, count: int = 1) -> None:
        self.counted[reason] += count
        self.first.setdefault(reason, where)

    def notes(self) -> tuple[str, ...]:
        """One sentence for each reason."""
        return tuple(
            f"{reason}: {self.counted[reason]}, first at {where.rstrip('.')}."
            for reason, where in self.first.items()
        )

    def __bool__(self) -> bool:
        return bool(self.counted)
