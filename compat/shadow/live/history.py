"""A surface's figures over time: every 10 s for an hour, and every 5 minutes for half a day before it."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshfold.compat.shadow.live.latency_steps import quantile_ms
from meshfold.compat.shadow.live.tally import Tally

# Seconds per point, and most points.
FINE_S, FINE_POINTS = 10.0, 360
COARSE_S, COARSE_POINTS = 300.0, 144
# Coarse steps that now() covers: 10 to 15 minutes.
_NOW_STEPS = 2


@dataclass(frozen=True, slots=True)
class Point:
    """The figures of an interval. begin_s: its start, in seconds since 1970; width_s: its length.

    pairs: number with both answers; mesh_failed, model_failed: number in which a side failed. overlap: mean
    overlap@100; noise: mean overlap of the mesh's two answers in `again` pairs. Latencies in milliseconds. NaN where
    unknown.
    """

    begin_s: float
    width_s: float
    pairs: int
    mesh_failed: int
    model_failed: int
    again: int
    overlap: float
    noise: float
    mesh_violations: int
    model_violations: int
    mesh_p50_ms: float
    mesh_p99_ms: float
    model_p50_ms: float
    model_p99_ms: float


def point_of(begin_s: float, width_s: float, tally: Tally) -> Point:
    counted, overlap = tally.pairs, tally.distributions["overlap"]
    compared = sum(overlap.counts)
    mesh, model = tally.latencies["mesh"], tally.latencies["model"]
    return Point(
        begin_s,
        width_s,
        pairs=counted["compared"],
        mesh_failed=counted["mesh_failed"] + counted["both_failed"],
        model_failed=counted["model_failed"] + counted["both_failed"],
        again=tally.again,
        overlap=overlap.total / compared if compared else math.nan,
        noise=tally.noise_overlap / tally.again if tally.again else math.nan,
        mesh_violations=tally.violations["mesh"],
        model_violations=tally.violations["model"],
        mesh_p50_ms=quantile_ms(mesh, 0.5),
        mesh_p99_ms=quantile_ms(mesh, 0.99),
        model_p50_ms=quantile_ms(model, 0.5),
        model_p99_ms=quantile_ms(model, 0.99),
    )


class _Steps:
    """Intervals of one width, of which the last is open. Intervals without a pair have no point."""

    def __init__(self, width_s: float, points: int, tallies: int) -> None:
        self._width_s = width_s
        self.points: deque[Point] = deque(maxlen=points)
        # Tallies of the latest closed intervals, besides their points.
        self.tallies: deque[tuple[float, Tally]] = deque(maxlen=tallies)
        self.open = Tally()
        self._begin_s = -math.inf

    def add(self, now_s: float, report: Mapping[str, Any]) -> None:
        self.close(now_s)
        if self._begin_s == -math.inf:
            self._begin_s = math.floor(now_s / self._width_s) * self._width_s
        self.open.add(report)

    def close(self, now_s: float) -> None:
        """Closes the open interval if its time is over."""
        if self._begin_s + self._width_s <= now_s and self._begin_s > -math.inf:
            self.points.append(point_of(self._begin_s, self._width_s, self.open))
            self.tallies.append((self._begin_s, self.open))
            self.open, self._begin_s = Tally(), -math.inf


class History:
    """The history of each reported surface. Thread-safe; takes at most some 250 KB per surface."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._fine: dict[str, _Steps] = {}
        self._coarse: dict[str, _Steps] = {}

    def add(self, surface: str, report: Mapping[str, Any]) -> None:
        """Adds a report. report: the addition to the surface's Tally, as JSON."""
        with self._lock:
            if surface not in self._fine:
                self._fine[surface] = _Steps(FINE_S, FINE_POINTS, 0)
                self._coarse[surface] = _Steps(COARSE_S, COARSE_POINTS, _NOW_STEPS)
            for steps in (self._fine[surface], self._coarse[surface]):
                steps.add(self._clock(), report)

    @property
    def surfaces(self) -> Sequence[str]:
        with self._lock:
            return tuple(self._fine)

    def points(self, surface: str) -> Sequence[Point]:
        """The points, oldest first: coarse points for times without fine ones."""
        with self._lock:
            if surface not in self._fine:
                return ()
            fine, coarse = self._fine[surface], self._coarse[surface]
            for steps in (fine, coarse):
                steps.close(self._clock())
            first_s = fine.points[0].begin_s if fine.points else math.inf
            return (*(p for p in coarse.points if p.begin_s + p.width_s <= first_s), *fine.points)

    def now(self, surface: str) -> Tally:
        """The tally of the last 10 to 15 minutes; `recent` is empty where they have no pairs."""
        with self._lock:
            steps = self._coarse.get(surface)
            if steps is None:
                return Tally()
            now_s = self._clock()
            steps.close(now_s)
            oldest_s = now_s - (1 + _NOW_STEPS) * COARSE_S
            return merged([*(tally for begin_s, tally in steps.tallies if begin_s >= oldest_s), steps.open])


def merged(tallies: Iterable[Tally]) -> Tally:
    """The sum of tallies, with `recent` of the last one that has any."""
    whole = Tally()
    recent: Mapping[str, float] = {}
    for tally in tallies:
        whole.add(tally.told())
        recent = tally.recent or recent
    whole.recent = dict(recent)
    return whole
