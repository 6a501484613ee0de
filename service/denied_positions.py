"""Denied items in the terms of one snapshot: positions, which every query of it excludes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from meshfold.model.item_ids import ItemIds
from meshfold.model.schema import IdKind
from meshfold.model.types import Ids, Int64s

_INTEGER = re.compile(r"-?[0-9]{1,19}\Z")


class DeniedPositions:
    """ids: of the snapshot's items. positions: [N] int64 by row. denied: the ids that are denied now, as text; the same
    object until they change."""

    def __init__(self, ids: ItemIds, positions: Int64s, denied: Callable[[], tuple[str, ...]]) -> None:
        self._ids, self._positions, self._denied = ids, positions, denied
        # One attribute, so that no thread sees the positions of other ids.
        self._held: tuple[tuple[str, ...], Int64s] = ((), np.empty(0, np.int64))

    def now(self) -> Int64s:
        """[n] int64, ascending: of the denied items that the snapshot has. 100,000 take some 40 ms after a change,
        nothing until the next."""
        denied = self._denied()
        held, positions = self._held
        if held is not denied:
            rows = self._ids.rows_of(ids_of(denied, self._ids.kind))
            positions = np.unique(self._positions[rows[rows >= 0]])
            self._held = denied, positions
        return positions

    def holds(self, texts: Sequence[str]) -> list[bool]:
        """Whether the snapshot has each of the items."""
        known = _known(self._ids, texts)
        return [text in known for text in texts]


def ids_of(texts: Sequence[str], kind: IdKind) -> Ids:
    """The ids that texts mean on a surface; those that mean none there are left out."""
    if kind is IdKind.STRINGS:
        return tuple(texts)
    numbers = (int(text) for text in texts if _INTEGER.match(text))
    return np.array([n for n in numbers if -(2**63) <= n < 2**63], np.int64)


def contains(ascending: Int64s, positions: Int64s) -> npt.NDArray[np.bool_]:
    """[n] bool: whether each position is among the ascending ones."""
    if not len(ascending):
        return np.zeros(len(positions), np.bool_)
    places = np.searchsorted(ascending, positions).clip(max=len(ascending) - 1)
    found: npt.NDArray[np.bool_] = ascending[places] == positions
    return found


def _known(ids: ItemIds, texts: Sequence[str]) -> set[str]:
    if ids.kind is IdKind.STRINGS:
        rows = ids.rows_of(tuple(texts))
        return {text for text, row in zip(texts, rows.tolist(), strict=True) if row >= 0}
    own = [text for text in texts if len(ids_of([text], ids.kind))]
    rows = ids.rows_of(ids_of(own, ids.kind))
    return {text for text, row in zip(own, rows.tolist(), strict=True) if row >= 0}
