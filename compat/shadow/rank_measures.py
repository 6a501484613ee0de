"""Measures of two ranked lists with ties. `a` and `b` are the lists, D the length of the longer one.

Overlap uses the best order of tied items, since equal values are no difference. Rank-biased overlap, tau and NDCG treat
ties as their sources do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from meshfold.compat.shadow.tied_list import Int, TiedList

Float = NDArray[np.float64]


def places_in(a: TiedList, b: TiedList) -> Int:
    """The place of each item of a in b, from 0; -1 where b lacks it: [len(a)]."""
    places = {item_id: place for place, item_id in enumerate(b.item_ids)}
    return np.array([places.get(item_id, -1) for item_id in a.item_ids], np.int64)


def common_counts(a: TiedList, b: TiedList, places: Int, max_results: int = 0, tolerance: float = 0.0) -> Int:
    """The number of common items in the first d places for each depth d from 1, [D], in the best order of tied items.

    Items of the last tie groups may be tied with items beyond the ends of the lists, and then any of them matches any
    other. This holds where both lists were cut (their length is max_results, or that is 0, unknown) and end in the same
    tie: the last scores are equal and so are those of most common items, or the last groups have a common item.
    """
    depth = max(len(a), len(b))
    at_a = np.flatnonzero(places >= 0)
    at_b = places[at_a]
    has_same_items = len(at_a) == depth
    is_open = not has_same_items and _is_open(a, b, places, max_results, tolerance)
    if not (a.has_ties or b.has_ties or is_open):
        return np.cumsum(np.bincount(np.maximum(at_a, at_b), minlength=depth))
    a_ends, b_ends = a.ends, b.ends
    if is_open:
        a_ends = np.where(a_ends == len(a), depth + 1, a_ends)
        b_ends = np.where(b_ends == len(b), depth + 1, b_ends)
    sa, ea, sb, eb = a.starts[at_a], a_ends[at_a], b.starts[at_b], b_ends[at_b]
    # A group that ends within d counts as a whole; one that crosses d counts with the places left in it (quota).
    both_in = _counts(np.maximum(ea, eb), np.full(len(ea), depth), depth)
    in_b_only = _counts(np.maximum(sa + 1, eb), ea - 1, depth)
    in_a_only = _counts(np.maximum(sb + 1, ea), eb - 1, depth)
    in_neither = _counts(np.maximum(sa, sb) + 1, np.minimum(ea, eb) - 1, depth)
    a_left, b_left = _quotas(a.starts, a_ends, depth), _quotas(b.starts, b_ends, depth)
    from_a, from_b = np.minimum(in_b_only, a_left), np.minimum(in_a_only, b_left)
    a_left, b_left = a_left - from_a, b_left - from_b
    from_both = np.minimum(in_neither, np.minimum(a_left, b_left))
    counts = both_in + from_a + from_b + from_both
    if is_open:
        first = max(a.starts[-1], b.starts[-1])
        counts[first:] += np.minimum(a_left, b_left)[first:] - from_both[first:]
    return np.asarray(counts)


def overlap(counts: Int, depth: int) -> float:
    """Common items over depth, at most the longer list's length, which is also depth 0. 1 for two empty lists."""
    at = min(depth, len(counts)) if depth else len(counts)
    return float(counts[at - 1]) / at if at else 1.0


def jaccard(counts: Int, depth: int, a_length: int, b_length: int) -> float:
    """Common items over items of either list, within a depth as in `overlap`. 1 for two empty lists."""
    at = min(depth, len(counts)) if depth else len(counts)
    if not at:
        return 1.0
    shared = float(counts[at - 1])
    return shared / (min(a_length, at) + min(b_length, at) - shared)


def first_difference(counts: Int) -> int:
    """The first rank, from 1, at which items differ other than by ties; the longer list's length + 1 where none."""
    differs = counts < np.arange(1, len(counts) + 1)
    return int(differs.argmax()) + 1 if differs.any() else len(counts) + 1


def rank_biased_overlap(a: TiedList, b: TiedList, places: Int, p: float) -> float:
    """RBO_EXT: extrapolated from lists of uneven lengths, with ties (Webber, Moffat, Zobel 2010, sections 4.3, 4.4).

    Tied items share the first rank of their group, and the agreement at depth d is 2 |A:d and B:d| / (|A:d| + |B:d|).
    Agreement is extrapolated past the end of the shorter list, and past that of the longer one.
    1 for two empty lists, 0 where one is empty.
    """
    if len(a) > len(b):
        short, long = b, a
    else:
        short, long = a, b
    s, l = len(short), len(long)  # noqa: E741 - the paper's letters
    if not s:
        return 1.0 if not l else 0.0
    at_a = np.flatnonzero(places >= 0)
    shared = np.cumsum(np.bincount(np.maximum(a.starts[at_a], b.starts[places[at_a]]), minlength=l))
    depths = np.arange(1, l + 1)
    unseen = np.maximum(depths - s, 0)
    short_sizes = np.concatenate([short.ends, depths[s:]])
    agreement_s = 2 * shared[s - 1] / (s + long.ends[s - 1])
    agreements = 2 * (shared + agreement_s * unseen) / (short_sizes + long.ends)
    weights = p ** (depths - 1)
    return float((1 - p) * (weights @ agreements) + p**l * agreements[-1])


def kendall_tau(a: TiedList, b: TiedList, places: Int) -> float:
    """Tau-b of common items, ranked by tie group; NaN where there are fewer than two or all are tied."""
    at_a = np.flatnonzero(places >= 0)
    x, y = a.starts[at_a], b.starts[places[at_a]]
    if len(x) < 2 or x[0] == x[-1] or (y == y[0]).all():
        return math.nan
    return float(kendalltau(x, y, variant="b").statistic)


def ndcg(a: TiedList, b: TiedList, places: Int, depths: Sequence[int]) -> list[float]:
    """NDCG of b graded by a, at each depth (0: the longer list's length); places: `places_in(a, b)`.

    An item's grade is the number of a's items from the first rank of its tie group on: N for the best, 0 for items that
    a lacks. Gains are grades, discounts log2(rank + 1). Tied items of b share the discounts of their places equally
    (McSherry and Najork 2008). 1 where both lists are empty, NaN where only a is.
    """
    if not len(a):
        return [1.0 if not len(b) else math.nan] * len(depths)
    if not len(b):
        return [0.0] * len(depths)
    grades = (len(a) - a.starts).astype(np.float64)
    gains = np.zeros(len(b))
    at_a = np.flatnonzero(places >= 0)
    gains[places[at_a]] = grades[at_a]
    if b.has_ties:
        sums = np.concatenate([[0.0], np.cumsum(gains)])
        gains = (sums[b.ends] - sums[b.starts]) / (b.ends - b.starts)
    longer = max(len(a), len(b))
    discounts = 1 / np.log2(np.arange(2, longer + 2))
    gained = np.cumsum(gains * discounts[: len(b)])
    ideal = np.cumsum(grades * discounts[: len(a)])
    return [
        float(gained[min(depth or longer, len(b)) - 1] / ideal[min(depth or longer, len(a)) - 1])
        for depth in depths
    ]


def _is_open(a: TiedList, b: TiedList, places: Int, max_results: int, tolerance: float) -> bool:
    if not (len(a) and len(b)) or min(len(a), len(b)) < max_results:
        return False
    if math.isclose(a.cut_score, b.cut_score, rel_tol=tolerance) and _has_one_scale(a, b, places, tolerance):
        return True
    return a.has_ties and b.has_ties and bool((places[a.starts[-1] :] >= b.starts[-1]).any())


def _has_one_scale(a: TiedList, b: TiedList, places: Int, tolerance: float) -> bool:
    """Whether most common items have equal scores; otherwise equal scores of two systems are no ties."""
    if a.scores is None or b.scores is None:
        return False
    at_a = np.flatnonzero(places >= 0)
    x, y = a.scores[at_a], b.scores[places[at_a]]
    is_equal = (x == y) | (np.abs(x - y) <= tolerance * np.maximum(np.abs(x), np.abs(y)))
    return 0 < len(at_a) <= 2 * int(is_equal.sum())


def _counts(first: Int, last: Int, depth: int) -> Int:
    """The number of spans from first to last that contain each depth from 1: [depth]."""
    is_span = first <= last
    opened = np.bincount(first[is_span], minlength=depth + 2)
    closed = np.bincount(last[is_span] + 1, minlength=depth + 2)
    return np.cumsum(opened - closed)[1 : depth + 1]


def _quotas(starts: Int, ends: Int, depth: int) -> Int:
    """The number of places within each depth of the group that crosses it: [depth]."""
    quotas = np.zeros(depth, np.int64)
    if len(starts):
        depths = np.arange(1, len(starts) + 1)
        quotas[: len(starts)] = np.where(ends > depths, depths - starts, 0)
        if ends[-1] > len(starts):
            quotas[len(starts) :] = len(starts) - starts[-1]
    return quotas
