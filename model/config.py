"""Settings of building and searching a snapshot, all part of its version's hash."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from meshfold.model.errors import InvalidConfig


class Merge(StrEnum):
    """The merges of several tasks' candidates into one list."""

    UNION = "union"
    INTERSECTION = "intersection"  # filled up from the union where it has fewer than max_results items


class Precision(StrEnum):
    """The number format in which an OverArch's linear layers multiply."""

    FLOAT32 = "float32"
    INT8 = "int8"  # codes of 8 bits, whose sums are exact integers


class PrecisionChoice(StrEnum):
    """The precision setting of a build. AUTO: model/precision.py chooses by measurement."""

    AUTO = "auto"
    FLOAT32 = "float32"
    INT8 = "int8"


@dataclass(frozen=True)
class IndexConfig:
    """Settings of the index.

    clusters: number of clusters; 0 chooses by catalog size. iterations: of k-means. seed: of k-means and of the queries
    for calibration. target_recall: recall@recall_depth against exact search; calibration raises the number of scored
    survivors until it is reached, up to max_scan_share of the items. candidates: items kept for re-scoring and ranking;
    0 takes the device's default.
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
        """The number of candidates: the setting, or the default of the device."""
        return self.candidates or (4096 if device_type == "cpu" else 10_000)

    def clusters_of(self, items: int) -> int:
        """The number of clusters of a catalog: the setting, or the larger of 4,096 and 10 sqrt(N), with 24 items or
        more each. Fewer clusters score more items for the same recall; more take long to train."""
        clusters = self.clusters or min(max(4096, round(10 * math.sqrt(items))), items // 24)
        return max(1, min(clusters, items))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError, ValueError or InvalidConfig where `raw` is not what to_json gives."""
        values = {f.name: raw[f.name] for f in fields(cls)}
        return cls(**values | {"merge": Merge(raw["merge"])})
