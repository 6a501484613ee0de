"""Limits of a folder of pairs. Imports nothing, since servers import it at their start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PairLimits:
    """Limits of a folder of pairs.

    file_rows, file_bytes, file_age_s: rows, bytes and seconds of pairs in memory after which a file is written. bytes,
    age_s: limits of all files of the folder, over all writers; the oldest are deleted.
    """

    file_rows: int = 2000
    file_bytes: int = 32 << 20
    file_age_s: float = 60.0
    bytes: int = 1 << 30
    age_s: float = 7 * 86_400.0
