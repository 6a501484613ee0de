"""Figures of all surfaces from files of pairs, counted as a server counts them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from meshfold.compat.live_page.job import Found, FoundSurface, Job
from meshfold.compat.live_page.newest_pairs import NewestPairs
from meshfold.compat.shadow.compare_settings import MeasureSettings
from meshfold.compat.shadow.comparison import Catalog, Comparison, SurfaceComparison
from meshfold.compat.shadow.comparison_folder import read_comparison
from meshfold.compat.shadow.live.drop_files import dropped_in
from meshfold.compat.shadow.live.history import FINE_S, Point, merged, point_of
from meshfold.compat.shadow.live.recent import Recent
from meshfold.compat.shadow.live.tally import Tally
from meshfold.compat.shadow.pair_measures import measure
from meshfold.compat.shadow.pairs import Pair
from meshfold.compat.shadow.report.texts import count, period

# Tau and score drift are computed for the details alone.
_MEASURES = MeasureSettings(tau_share=0.0, score_points=0)
# Limit on points over time; beyond it, each point covers twice the time.
_MOST_POINTS = 300


def figures(job: Job, catalog: Callable[[str], Catalog | None]) -> Found:
    """Raises InvalidData."""
    place = Path(job.place)
    pairs = NewestPairs(place, None, job.most_pairs)
    surfaces: dict[str, _Surface] = {}
    total, from_ms, to_ms = 0, 0, 0
    for pair in pairs():
        total += 1
        if pair.unix_ms > 0:
            from_ms, to_ms = min(from_ms or pair.unix_ms, pair.unix_ms), max(to_ms, pair.unix_ms)
        if pair.surface not in surfaces:
            surfaces[pair.surface] = _Surface(catalog(pair.surface))
        surfaces[pair.surface].add(pair)
    compared = read_comparison(place) if place.is_dir() else None
    when = period(from_ms, to_ms)
    which = "All" if pairs.is_all else "The newest"
    return Found(
        caption=f"{which} {count(total, 'pair')} of {place}{f', {when}' if when else ''}.",
        surfaces=tuple(
            FoundSurface(name, one.tally(_compared(compared, name)), one.points())
            for name, one in sorted(surfaces.items())
        ),
        counted=pairs.skipped.counted + dropped_in(place),
    )


class _Surface:
    def __init__(self, catalog: Catalog | None) -> None:
        self._catalog = catalog
        self._whole = Tally()
        self._recent = Recent()
        self._width_s = FINE_S
        self._steps: dict[int, Tally] = {}

    def add(self, pair: Pair) -> None:
        measured = measure(pair, _MEASURES)
        one = Tally()
        one.count(pair, measured)
        if self._catalog is not None:
            one.check(pair, self._catalog)
        self._whole.add(one.told())
        self._recent.add(pair, measured)
        if pair.unix_ms <= 0:
            return
        step = int(pair.unix_ms / 1000 // self._width_s)
        self._steps.setdefault(step, Tally()).add(one.told())
        while len(self._steps) > _MOST_POINTS:
            self._widen()

    def tally(self, compared: SurfaceComparison | None) -> Tally:
        """compared: figures of all pairs; None for figures of the latest pairs."""
        self._whole.recent = self._recent.figures()
        if compared is not None:
            self._whole.recent |= _figures_of(compared)
            for rate in compared.rates:
                if rate.name == "violations":
                    self._whole.violations[rate.side], self._whole.checked[rate.side] = rate.count, rate.of
        return self._whole

    def points(self) -> tuple[Point, ...]:
        return tuple(
            point_of(step * self._width_s, self._width_s, tally)
            for step, tally in sorted(self._steps.items())
        )

    def _widen(self) -> None:
        grouped: dict[int, list[Tally]] = {}
        for step, tally in self._steps.items():
            grouped.setdefault(step // 2, []).append(tally)
        self._width_s *= 2
        self._steps = {step: merged(tallies) for step, tallies in grouped.items()}


def _compared(comparison: Comparison | None, surface: str) -> SurfaceComparison | None:
    found: Iterable[SurfaceComparison] = () if comparison is None else comparison.surfaces
    return next((one for one in found if one.surface == surface), None)


def _figures_of(compared: SurfaceComparison) -> dict[str, float]:
    """Figures by the names of Tally.recent."""
    figure = next((one for one in compared.figures if one.name == "overlap@100"), None)
    if figure is None:
        return {}
    found = {"overlap": figure.difference.value}
    if figure.noise is not None and figure.excess is not None:
        found |= {
            "noise_overlap": figure.noise.value,
            "excess_overlap": figure.excess.value,
            "noise_width": figure.excess.high - figure.excess.low,
        }
    return {name: value for name, value in found.items() if not math.isnan(value)}
