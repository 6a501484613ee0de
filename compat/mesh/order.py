"""Sorts by score with ties to the smaller number, and converts ids to such numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meshfold.model.types import Float32s, Ids, Int64s


class Numbers:
    """Numbers of the ids of several lists, int64 in the order of ids: integers themselves, strings by their place in
    the order of UTF-8 bytes."""

    def __init__(self, lists: Sequence[Ids]) -> None:
        # Python compares strings by code points, which is the order of their UTF-8 bytes.
        self._strings = sorted({string for ids in lists if isinstance(ids, tuple) for string in ids})
        self._places = {string: place for place, string in enumerate(self._strings)}

    def of(self, ids: Ids) -> Int64s:
        """The numbers of ids that are in the lists: [n] int64."""
        if isinstance(ids, tuple):
            return np.fromiter(map(self._places.__getitem__, ids), np.int64, len(ids))
        return ids

    def ids_at(self, numbers: Int64s) -> Ids:
        """The ids of numbers: [n] int64."""
        return tuple(map(self._strings.__getitem__, numbers.tolist())) if self._strings else numbers


def best(numbers: Int64s, scores: Float32s, k: int) -> Int64s:
    """[min(k, M)] int64: places of the k highest scores, in order; ties go to the smaller number.

    numbers: [M] int64 - ids or rows. scores: [M] float32 without NaN.
    """
    if k == 0:
        return np.empty(0, np.int64)
    kept = None
    if len(numbers) > k:
        # Includes all that tie with the k-th, so that numbers decide ties at the cut.
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = np.flatnonzero(scores >= least)
        numbers, scores = numbers[kept], scores[kept]
    # Sorting scores alone is several times as fast, and ties are rare.
    order = np.argsort(-scores)
    ordered = scores[order]
    if (ordered[1:] == ordered[:-1]).any():
        order = np.lexsort((numbers, -scores))
    order = order[:k]
    return order if kept is None else kept[order]
