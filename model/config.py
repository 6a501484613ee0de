"""Settings of building and searching a snapshot; its version hashes them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from meshfold.model.errors import InvalidConfig


class Merge(StrEnum):
    """The merges of several tasks' candidates into one list."""

    UNION = "union"
    INTERSECTION = "intersection"  # filled from the union where it is short of the results asked for


class Precision(StrEnum):
    """The numbers that an OverArch's linear layers multiply."""

    FLOAT32 = "float32"
    INT8 = "int8"  # codes of 8 bits, whose sums are exact integers


class PrecisionChoice(StrEnum):
    """The precision of a build: a given one, or AUTO, by which model/precision.py chooses."""

    AUTO = "auto"
    FLOAT32 = "float32"
    INT8 = "int8"


@dataclass(frozen=True)
class IndexConfig:
    """clusters: 0 chooses by catalog size. iterations: of k-means. seed: of k-means and of the queries that
    calibrate. target_recall: of `recall_depth` results against exact search, reached by scoring as many
    survivors as that takes, though at most max_scan_share of the items. candidates: kept for re-scoring
    and ranking; 0 leaves it to the device.
    """

    clusters: int = 0
    iterations: int = 6
    seed: int = 0
    target_recall: float = 0.995
    recall_depth: int = 1000
    max_scan_share: float = 0.25
    candidates: int = 0
    merge: Merge = Merge.UNION

    def __post_init__(self) -> None:
        for name, low, high in (
            ("clusters", 0, 2**20),
            ("iterations", 1, 1000),
            ("seed", 0, 2**63 - 1),
            ("target_recall", 0.0, 1.0),
            ("recall_depth", 1, 100_000),
            ("max_scan_share", 0.0, 1.0),
            ("candidates", 0, 1_000_000),
        ):
            value = getattr(self, name)
            whole = isinstance(low, int)
            if type(value) not in ((int,) if whole else (int, float)) or not low <= value <= high:
                kind = "an integer" if whole else "a number"
                raise InvalidConfig(f"{name} must be {kind} between {low} and {high}, got {value!r}")

    def candidates_on(self, device_type: str) -> int:
        """The number of candidates: the setting, else the default of the device."""
        return self.candidates or (4096 if device_type == "cpu" else 10_000)

    def clusters_of(self, items: int) -> int:
        """Clusters for a catalog: the number that was set, else the larger of 4,096 and 10 sqrt(N), at least
        24 items each. Fewer clusters score more items for the same recall; more are slow to learn."""
        wanted = self.clusters or min(max(4096, round(10 * math.sqrt(items))), items // 24)
        return max(1, min(wanted, items))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError, ValueError or InvalidConfig where `raw` is not what to_json gives."""
        values = {f.name: raw[f.name] for f in fields(cls)}
        return cls(**values | {"merge": Merge(raw["merge"])})
