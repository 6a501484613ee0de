"""Positions of denied items in one snapshot, which every query excludes."""

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
    """Looks denied ids up in a snapshot.

    ids: the snapshot's item ids. positions: [N] int64 by row. denied: returns the denied ids as text, the same object
    until they change.
    """

    def __init__(self, ids: ItemIds, positions: Int64s, denied: Callable[[], tuple[str, ...]]) -> None:
        self._ids, self._positions, self._denied = ids, positions, denied
        # (denied ids, position of each or -1 where unknown, known positions ascending), in one attribute so that no
        # thread sees positions of other ids.
        self._held: tuple[tuple[str, ...], dict[str, int], Int64s] = ((), {}, np.empty(0, np.int64))

    def now(self) -> Int64s:
        """Positions of the denied items, [n] int64, ascending. The first query after a change looks up the new ids."""
        denied = self._denied()
        ids, known, positions = self._held
        if ids is not denied:
            new = [text for text in denied if text not in known]
            found = dict(zip(new, self._found(new), strict=True))
            known = {text: known[text] if text in known else found[text] for text in denied}
            positions = np.unique(np.fromiter(known.values(), np.int64, len(known)))
            positions = positions[positions >= 0]
            self._held = denied, known, positions
        return positions

    def holds(self, texts: Sequence[str]) -> list[bool]:
        """For each item, whether the snapshot has it."""
        return [position >= 0 for position in self._found(texts)]

    def _found(self, texts: Sequence[str]) -> list[int]:
        """The position of each item; -1 where the snapshot lacks it."""
        own = list(range(len(texts)))
        if self._ids.kind is IdKind.INTEGERS:
            own = [place for place in own if _is_integer(texts[place])]
        rows = self._ids.rows_of(ids_of([texts[place] for place in own], self._ids.kind))
        found = np.full(len(texts), -1, np.int64)
        found[own] = np.where(rows >= 0, self._positions[rows], -1)
        return [int(position) for position in found]


def ids_of(texts: Sequence[str], kind: IdKind) -> Ids:
    """The ids that texts stand for on a surface; skips texts that are no id of the surface's kind."""
    if kind is IdKind.STRINGS:
        return tuple(texts)
    return np.array([int(text) for text in texts if _is_integer(text)], np.int64)


def contains(ascending: Int64s, positions: Int64s) -> npt.NDArray[np.bool_]:
    """For each position, whether it is among the ascending ones: [n] bool."""
    if not len(ascending):
        return np.zeros(len(positions), np.bool_)
    places = np.searchsorted(ascending, positions).clip(max=len(ascending) - 1)
    found: npt.NDArray[np.bool_] = ascending[places] == positions
    return found


def _is_integer(text: str) -> bool:
    return _INTEGER.match(text) is not None and -(2**63) <= int(text) < 2**63
