"""Figures over time: intervals, how long they are kept, and what counts as now."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pytest

from meshfold.compat.shadow.compare_settings import MeasureSettings
from meshfold.compat.shadow.live.history import COARSE_POINTS, COARSE_S, FINE_POINTS, FINE_S, History
from meshfold.compat.shadow.live.latency_steps import quantile_ms, step_of
from meshfold.compat.shadow.live.tally import Tally
from meshfold.compat.shadow.pair_measures import measure
from meshfold.compat.shadow.pairs import Pair, SideAnswer


def report(pairs: int = 1, mesh: tuple[int, ...] = (1, 2, 3, 4), latency_ms: float = 10.0) -> Any:
    """As a comparing process tells it: of pairs whose model shares three of four items, the mesh all with itself."""
    tally = Tally(recent={"overlap": 0.75})
    for number in range(pairs):
        pair = Pair(
            str(number),
            mesh=SideAnswer(mesh, latency_ms=latency_ms),
            model=SideAnswer((1, 2, 3, 9), latency_ms=latency_ms / 2),
            again=SideAnswer(mesh) if number == 0 else None,
        )
        tally.count(pair, measure(pair, MeasureSettings()))
    return json.loads(json.dumps(tally.told()))


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def test_an_interval_becomes_a_point_when_its_time_is_over() -> None:
    clock = Clock()
    history = History(clock)
    history.add("feed", report(3))
    history.add("feed", report(1))
    assert history.points("feed") == ()
    clock.now_s += FINE_S
    (point,) = history.points("feed")
    assert (point.begin_s, point.width_s, point.pairs, point.again) == (1_000_000.0, FINE_S, 4, 2)
    assert point.overlap == pytest.approx(0.75)
    assert point.noise == 1.0
    assert point.mesh_p50_ms == pytest.approx(10, rel=0.06)
    assert point.model_p99_ms == pytest.approx(5, rel=0.06)
    # An interval without a pair is a gap.
    clock.now_s += 5 * FINE_S
    history.add("feed", report())
    clock.now_s += FINE_S
    assert [p.begin_s for p in history.points("feed")] == [1_000_000.0, 1_000_000.0 + 6 * FINE_S]
    assert history.points("unknown") == ()
    assert history.surfaces == ("feed",)


def test_an_hour_is_kept_finely_and_half_a_day_coarsely_and_no_more() -> None:
    clock = Clock()
    history = History(clock)
    told = report()
    for _ in range(2 * FINE_POINTS + int(COARSE_POINTS * COARSE_S / FINE_S)):
        history.add("feed", told)
        clock.now_s += FINE_S
    points = history.points("feed")
    assert [p.width_s for p in points].count(FINE_S) == FINE_POINTS
    coarse = [p for p in points if p.width_s == COARSE_S]
    assert 0 < COARSE_POINTS - 13 <= len(coarse) <= COARSE_POINTS
    begins = [p.begin_s for p in points]
    assert begins == sorted(begins)
    assert all(a.begin_s + a.width_s <= b.begin_s for a, b in zip(points, points[1:], strict=False))
    assert {p.pairs for p in coarse} == {COARSE_S / FINE_S}


def test_now_is_the_last_quarter_of_an_hour() -> None:
    clock = Clock()
    history = History(clock)
    assert history.now("feed").pairs == {}
    history.add("feed", report(5))
    assert history.now("feed").pairs["compared"] == 5
    assert history.now("feed").recent == {"overlap": 0.75}
    clock.now_s += 2 * COARSE_S
    history.add("feed", report(2))
    assert history.now("feed").pairs["compared"] == 7
    clock.now_s += 2 * COARSE_S
    assert history.now("feed").pairs["compared"] == 2
    clock.now_s += COARSE_S * 10
    assert history.now("feed").pairs == {}


def test_a_side_that_failed_is_counted_by_its_name() -> None:
    history = History(clock := Clock())
    tally = Tally()
    for mesh, model in (("OK", "UNAVAILABLE"), ("UNAVAILABLE", "OK"), ("INTERNAL", "INTERNAL")):
        pair = Pair("1", mesh=SideAnswer((), status=mesh), model=SideAnswer((), status=model))
        tally.count(pair, measure(pair, MeasureSettings()))
    history.add("feed", tally.told())
    clock.now_s += FINE_S
    (point,) = history.points("feed")
    assert (point.pairs, point.mesh_failed, point.model_failed) == (0, 2, 2)
    assert math.isnan(point.overlap)
    assert math.isnan(point.mesh_p50_ms)


def test_steps_of_latencies_add_up_and_keep_quantiles() -> None:
    chance = random.Random(7)
    values = [chance.lognormvariate(3, 0.8) for _ in range(5000)]
    tallies = [Tally(), Tally()]
    for number, value in enumerate(values):
        tallies[number % 2].latencies["mesh"][step_of(value)] += 1
    tallies[0].add(json.loads(json.dumps(tallies[1].told())))
    counts = tallies[0].latencies["mesh"]
    for share in (0.5, 0.9, 0.99):
        assert quantile_ms(counts, share) == pytest.approx(np.quantile(values, share), rel=0.08)
    assert len({step_of(value) for value in (0.0, 1e-9, 1e300)}) == 2
    assert math.isnan(quantile_ms({}, 0.5))
