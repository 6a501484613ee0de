"""Selects the versions to delete: the oldest, never one that is served, pinned or a target of a roll-back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from meshfold.model.errors import InvalidConfig
from meshfold.model.store import published_s

_DAY_S = 86_400.0


@dataclass(frozen=True)
class RetentionConfig:
    """Settings of retention, applied to each surface of the store."""

    keep: Annotated[int, "newest versions of a surface that are kept at any age"] = 0
    days: Annotated[float, "days after which the others are deleted; none is deleted where both are 0"] = 0.0

    def __post_init__(self) -> None:
        if self.keep < 0:
            raise InvalidConfig(f"retention.keep must be at least 0, got {self.keep}")
        if not 0 <= self.days < 36_500:
            raise InvalidConfig(f"retention.days must be at least 0 and below 36500, got {self.days}")

    @property
    def deletes(self) -> bool:
        return self.keep > 0 or self.days > 0


def expired(
    folders: Sequence[Path], protected: Collection[str], keep: int, days: float, now_s: float
) -> list[Path]:
    """The folders to delete, oldest first.

    folders: of a surface, newest first. protected: names of folders that must stay. keep: number of newest folders that
    stay at any age. days: age from which the others are deleted. now_s: seconds since 1970.
    """
    return [
        folder
        for folder in reversed(folders[keep:])
        if folder.name not in protected and now_s - published_s(folder) >= days * _DAY_S
    ]
