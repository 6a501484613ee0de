"""The values by which pairs are grouped into slices."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshfold.compat.shadow.pairs import Pair

# Most names of slices, values of a name, and characters of a value; later values are `OTHER`, later names dropped.
_MAX_NAMES, _MAX_VALUES, _MAX_TEXT = 50, 1000, 200
OTHER = "(other)"
_MS_PER_HOUR = 3_600_000


@dataclass(frozen=True)
class SliceColumn:
    """A slice name's column. codes: [N], index of each pair's value in values; -1 where it has none."""

    name: str
    values: tuple[str, ...]
    codes: NDArray[np.int64]


class SliceColumns:
    """The slices of many pairs, encoded as columns of codes."""

    def __init__(self) -> None:
        # Number of values whose slice name was dropped.
        self.left_out = 0
        self._count = 0
        self._codes: dict[str, array[int]] = {}
        self._values: dict[str, dict[str, int]] = {}

    def add(self, slices: Mapping[str, str]) -> None:
        for name, value in slices.items():
            codes = self._codes.get(name)
            if codes is None:
                if len(self._codes) >= _MAX_NAMES:
                    self.left_out += 1
                    continue
                codes = self._codes[name] = array("i", [-1] * self._count)
                self._values[name] = {}
            values = self._values[name]
            value = value[:_MAX_TEXT]
            if value not in values and len(values) >= _MAX_VALUES:
                value = OTHER
            codes.append(values.setdefault(value, len(values)))
        self._count += 1
        for codes in self._codes.values():
            if len(codes) < self._count:
                codes.append(-1)

    def columns(self) -> list[SliceColumn]:
        return [
            SliceColumn(name, tuple(self._values[name]), np.array(codes, np.int64))
            for name, codes in self._codes.items()
        ]


def slices_of(pair: Pair) -> dict[str, str]:
    """The slices of a pair: served_by, filtered, max_results and hour (UTC) where known, then its own slices."""
    slices: dict[str, str] = {}
    if pair.served_by:
        slices["served_by"] = pair.served_by
    if pair.filter is not None:
        slices["filtered"] = "yes" if pair.filter else "no"
    if pair.max_results:
        slices["max_results"] = str(pair.max_results)
    if pair.unix_ms:
        slices["hour"] = f"{pair.unix_ms // _MS_PER_HOUR % 24:02d}"
    return {**slices, **pair.slices}
