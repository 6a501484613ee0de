"""What was skipped while pairs were read: how much, why, and where first."""

from __future__ import annotations

from collections import Counter


class Skipped:
    """counted: by reason. first: where each reason came up first."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, reason: str, where: str, count: int = 1) -> None:
        self.counted[reason] += count
        self.first.setdefault(reason, where)

    def notes(self) -> tuple[str, ...]:
        """A sentence a reason."""
        return tuple(
            f"{reason}: {self.counted[reason]}, first at {where}." for reason, where in self.first.items()
        )

    def __bool__(self) -> bool:
        return bool(self.counted)
