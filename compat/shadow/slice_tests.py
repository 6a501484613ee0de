"""Compares each slice of the pairs with all other pairs, to find where the sides agree least."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, t

from meshfold.compat.shadow.compare_settings import CompareSettings
from meshfold.compat.shadow.comparison import Interval, Slice
from meshfold.compat.shadow.intervals import bootstrap, user_means
from meshfold.compat.shadow.slice_values import SliceColumn

Float = NDArray[np.float64]
Int = NDArray[np.int64]
_ALPHA = 0.05
_NONE = Interval(math.nan, math.nan, math.nan)
# Resamples for the interval of a slice; fewer than elsewhere, since there are many slices.
_RESAMPLES = 1000


@dataclass(frozen=True)
class SlicedPairs:
    """Columns of N pairs. users: from 0. overlap: overlap@100. excess: overlap minus noise; NaN without noise."""

    users: Int
    overlap: Float
    excess: Float


@dataclass(frozen=True, eq=False)
class ComparedSlice:
    """A slice before its interval and q are computed. rows: numbers of its pairs."""

    slice: Slice
    pairs: SlicedPairs
    rows: Int


def slices_against_rest(
    pairs: SlicedPairs, columns: Sequence[SliceColumn], min_users: int
) -> list[ComparedSlice]:
    """The slices with at least min_users users inside and outside.

    p: p value of Welch's t test of user means, with the variance over users, so that users with pairs inside and
    outside count as paired. Without any variance p is 0 where the means differ and 1 where they do not.
    """
    is_told = ~np.isnan(pairs.overlap)
    kept = np.flatnonzero(is_told)
    users, places = np.unique(pairs.users[kept], return_inverse=True)
    count, overlap = len(users), pairs.overlap[kept]
    all_counts, all_sums = np.bincount(places, minlength=count), np.bincount(places, overlap, minlength=count)
    found = []
    for column in columns:
        codes = column.codes[kept]
        order = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[order], np.arange(len(column.values) + 1))
        for code, value in enumerate(column.values):
            rows = order[bounds[code] : bounds[code + 1]]
            if len(rows) < min_users:
                continue
            counts = np.bincount(places[rows], minlength=count)
            sums = np.bincount(places[rows], overlap[rows], minlength=count)
            size, rest = int((counts > 0).sum()), all_counts - counts
            if min(size, int((rest > 0).sum())) < min_users:
                continue
            difference, p = _welch(_means(sums, counts), _means(all_sums - sums, rest))
            one = Slice(column.name, value, size, len(rows), _NONE, None, difference, p, math.nan)
            found.append(ComparedSlice(one, pairs, kept[rows]))
    return found


def worst_first(groups: Sequence[Sequence[ComparedSlice]], settings: CompareSettings) -> list[list[Slice]]:
    """Each group's slices, sorted: q up to 0.05 first, then the lowest overlap relative to the rest.

    q is corrected for all groups together (Benjamini and Hochberg).
    """
    p_values = [one.slice.p for group in groups for one in group]
    q_values = iter(false_discovery_control(p_values).tolist() if p_values else ())
    found = []
    for group in groups:
        slices = [(replace(one.slice, q=next(q_values)), one) for one in group]
        slices.sort(key=lambda entry: _rank(entry[0]))
        found.append([_with_intervals(*entry, settings) for entry in slices[: settings.slices]])
    return found


def _rank(one: Slice) -> tuple[bool, float, str, str]:
    return one.q > _ALPHA, one.difference_from_rest, one.name, one.value


def _with_intervals(one: Slice, tested: ComparedSlice, settings: CompareSettings) -> Slice:
    pairs, rows = tested.pairs, tested.rows
    users, places = np.unique(pairs.users[rows], return_inverse=True)
    values = np.column_stack([pairs.overlap[rows], pairs.excess[rows]])
    overlap, excess = bootstrap(
        user_means(places, values, len(users)), min(settings.resamples, _RESAMPLES), settings.seed
    )
    return replace(one, overlap=overlap, excess=None if math.isnan(excess.value) else excess)


def _means(sums: NDArray[np.float64 | np.int64], counts: Int) -> Float:
    means = np.full(len(sums), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _welch(inside: Float, rest: Float) -> tuple[float, float]:
    """The difference of the means over users and its two-sided p. Both: [U], NaN where a user has none."""
    parts, variances = [], []
    for means in (inside, rest):
        is_told = ~np.isnan(means)
        size = int(is_told.sum())
        gaps = np.where(is_told, means - means[is_told].mean(), 0.0)
        parts.append(gaps / math.sqrt(size * (size - 1)))
        variances.append(((gaps**2).sum() / (size * (size - 1)), size - 1))
    difference = float(np.nanmean(inside) - np.nanmean(rest))
    variance = float(((parts[0] - parts[1]) ** 2).sum())
    if variance < 1e-18:
        return difference, float(abs(difference) < 1e-9)
    (inside_variance, inside_free), (rest_variance, rest_free) = variances
    squares = inside_variance**2 / inside_free + rest_variance**2 / rest_free
    free = (inside_variance + rest_variance) ** 2 / squares if squares > 0 else inside_free
    return difference, 2 * float(t.sf(abs(difference) / math.sqrt(variance), free))
