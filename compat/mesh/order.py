"""Best first, ties to the smaller number."""

from __future__ import annotations

import numpy as np

from meshfold.model.types import Float32s, Int64s


def best(numbers: Int64s, scores: Float32s, k: int) -> Int64s:
    """[min(k, M)] int64: places of the k highest scores, in order; ties go to the smaller number.

    numbers: [M] int64 - ids or rows. scores: [M] float32 without NaN.
    """
    if k == 0:
        return np.empty(0, np.int64)
    kept = None
    if len(numbers) > k:
        # The k-th best and all that equal it, so that ties at the cut are decided by their numbers too.
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = np.flatnonzero(scores >= least)
        numbers, scores = numbers[kept], scores[kept]
    # Scores alone sort several times as fast as scores and numbers do, and mostly there are no ties.
    order = np.argsort(-scores)
    ordered = scores[order]
    if (ordered[1:] == ordered[:-1]).any():
        order = np.lexsort((numbers, -scores))
    order = order[:k]
    return order if kept is None else kept[order]
