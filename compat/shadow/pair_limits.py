"""How much a folder of pairs may hold. Imports nothing, as servers read it at their start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PairLimits:
    """file_rows, file_bytes, file_age_s: what waits in memory at most, after which a file is written. bytes, age_s: of
    the folder's files, those of other writers too; the oldest go."""

    file_rows: int = 2000
    file_bytes: int = 32 << 20
    file_age_s: float = 60.0
    bytes: int = 1 << 30
    age_s: float = 7 * 86_400.0
