"""Measures of many pairs, as columns of numbers."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshfold.compat.shadow.compare_settings import CompareSettings
from meshfold.compat.shadow.comparison import Figure
from meshfold.compat.shadow.intervals import bootstrap, user_means
from meshfold.compat.shadow.pair_measures import MEASURES, PairMeasures
from meshfold.compat.shadow.rank_measures import overlap
from meshfold.compat.shadow.slice_tests import SlicedPairs
from meshfold.compat.shadow.tied_list import Int

Float = NDArray[np.float64]
# Depths of the curve of overlap.
CURVE_DEPTHS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
# The measure by which slices are compared and examples chosen.
SLICED = "overlap@100"
_BINS = 20
_WIDTH = len(MEASURES) + len(CURVE_DEPTHS)
_NONE = (math.nan,) * _WIDTH


class MeasuredPairs:
    """Measures of the pairs of one surface that have a difference or noise."""

    def __init__(self) -> None:
        self._longest = 0
        self._users = array("q")
        self._difference = array("d")
        self._noise = array("d")
        # Numbers of the rows that have noise.
        self._noise_rows = array("q")

    def add(self, user: int, measures: PairMeasures) -> None:
        row = len(self._users)
        self._users.append(user)
        self._difference.extend(self._values(measures.difference, measures.difference_counts))
        if measures.noise is not None:
            self._noise.extend(self._values(measures.noise, measures.noise_counts))
            self._noise_rows.append(row)

    def columns(self) -> MeasuredColumns:
        return MeasuredColumns(
            np.array(self._users, np.int64),
            np.frombuffer(self._difference).reshape(-1, _WIDTH),
            np.frombuffer(self._noise).reshape(-1, _WIDTH),
            np.array(self._noise_rows, np.int64),
            self._longest,
        )

    def _values(self, measures: Mapping[str, float] | None, counts: Int | None) -> tuple[float, ...]:
        if measures is None or counts is None:
            return _NONE
        self._longest = max(self._longest, len(counts))
        return (*measures.values(), *(overlap(counts, depth) for depth in CURVE_DEPTHS))


@dataclass(frozen=True, eq=False)
class MeasuredColumns:
    """Measures of N pairs, R of them with noise.

    users: [N]. difference: [N, M], noise: [R, M], columns MEASURES, then overlap at CURVE_DEPTHS; NaN where unknown.
    noise_rows: [R], the pair of each row of noise. longest: the longest list's length.
    """

    users: Int
    difference: Float
    noise: Float
    noise_rows: Int
    longest: int

    def figures(self, settings: CompareSettings) -> tuple[Figure, ...]:
        """The figure of each measure: the mean over users of the mean of each user's pairs."""
        measures = len(MEASURES)
        difference, noise = self.difference[:, :measures], self.noise[:, :measures]
        users, places = np.unique(self.users, return_inverse=True)
        noise_places = places[self.noise_rows]
        values = np.hstack(
            [
                user_means(places, difference, len(users)),
                user_means(noise_places, noise, len(users)),
                user_means(noise_places, difference[self.noise_rows] - noise, len(users)),
            ]
        )
        intervals = bootstrap(values, settings.resamples, settings.seed)
        figures = []
        for place, name in enumerate(MEASURES):
            noise_pairs = int((~np.isnan(noise[:, place])).sum())
            excess = intervals[place + 2 * measures]
            figures.append(
                Figure(
                    name=name,
                    difference=intervals[place],
                    noise=intervals[place + measures] if noise_pairs else None,
                    excess=None if math.isnan(excess.value) else excess,
                    pairs=int((~np.isnan(difference[:, place])).sum()),
                    noise_pairs=noise_pairs,
                    users=int((~np.isnan(values[:, place])).sum()),
                )
            )
        return tuple(figures)

    def curve(self) -> tuple[tuple[int, float, float], ...]:
        """Mean overlap over users at each depth, up to the longest list."""
        users, places = np.unique(self.users, return_inverse=True)
        first = len(MEASURES)
        difference = user_means(places, self.difference[:, first:], len(users))
        noise = user_means(places[self.noise_rows], self.noise[:, first:], len(users))
        return tuple(
            (depth, mean_of(difference[:, column]), mean_of(noise[:, column]))
            for column, depth in enumerate(CURVE_DEPTHS)
            if depth <= self.longest
        )

    def histogram(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Histograms of overlap at the pairs' whole length: (difference, noise)."""
        column = MEASURES.index("overlap@K")
        return _binned(self.difference[:, column]), _binned(self.noise[:, column])

    def sliced(self) -> SlicedPairs:
        column = MEASURES.index(SLICED)
        overlaps = self.difference[:, column]
        excess = np.full(len(overlaps), np.nan)
        excess[self.noise_rows] = overlaps[self.noise_rows] - self.noise[:, column]
        return SlicedPairs(self.users, overlaps, excess)

    def noise_pairs(self) -> int:
        return len(self.noise_rows)

    def mean_noise(self) -> float:
        """Mean noise of overlap@100 over pairs; NaN where there is none."""
        return mean_of(self.noise[:, MEASURES.index(SLICED)])


def mean_of(values: Float) -> float:
    """The mean of the values that are not NaN; NaN where there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _binned(values: Float) -> tuple[int, ...]:
    # 1e-9, so that a fraction such as 19 / 20 is in its bin whatever its last bit.
    bins = np.floor(values[~np.isnan(values)] * _BINS + 1e-9).astype(np.int64)
    return tuple(np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS).tolist())
