"""A surface's figures over time as charts, and as the small line of an overview."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from meshfold.compat.live_page.charts import (
    Line,
    Scale,
    chart,
    close_scale,
    count_scale,
    log_scale,
    share_scale,
    sparkline,
)
from meshfold.compat.live_page.facts import SurfaceFacts
from meshfold.compat.shadow.live.history import Point
from meshfold.compat.shadow.report.texts import percent

# Largest number of points of a surface's small line.
_SPARK_POINTS = 75


@dataclass(frozen=True)
class ChartView:
    title: str
    svg: str
    caption: str


def small_scale(surfaces: Iterable[SurfaceFacts]) -> Scale:
    """The scale for agreement over time, shared by all surfaces."""
    return close_scale(share for each in surfaces for p in each.points for share in (p.overlap, p.noise))


def small_line(each: SurfaceFacts, scale: Scale, now_s: float) -> str:
    """Agreement over time as a small line; "" if unknown."""
    lines = [replace(line, points=_thinned(line.points)) for line in _agreement_lines(each.points)]
    now = each.now.recent
    told = f"Model and mesh share {percent(now['overlap'])} now." if "overlap" in now else "No figures now."
    return sparkline(lines, scale, now_s, f"Line plot of agreement over time. {told}")


def _agreement_lines(points: Sequence[Point]) -> tuple[Line, ...]:
    return (
        Line("mesh and itself", "of-mesh", [(p.begin_s, p.width_s, p.noise) for p in points]),
        Line("model and mesh", "of-model", [(p.begin_s, p.width_s, p.overlap) for p in points]),
    )


def _thinned(points: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """At most _SPARK_POINTS points, each the mean of neighbours."""
    size = math.ceil(len(points) / _SPARK_POINTS) or 1
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    thinned = []
    for group in groups:
        values = [value for _, _, value in group if math.isfinite(value)]
        width_s = group[-1][0] + group[-1][1] - group[0][0]
        thinned.append((group[0][0], width_s, sum(values) / len(values) if values else math.nan))
    return thinned


def charts(points: Sequence[Point], now_s: float) -> tuple[ChartView, ...]:
    agreement = _agreement_lines(points)
    latency = tuple(
        Line(f"{side} {name}", f"of-{side} {name}", [(p.begin_s, p.width_s, v) for p, v in values])
        for side, name, values in (
            ("mesh", "p50", [(p, p.mesh_p50_ms) for p in points]),
            ("mesh", "p99", [(p, p.mesh_p99_ms) for p in points]),
            ("model", "p50", [(p, p.model_p50_ms) for p in points]),
            ("model", "p99", [(p, p.model_p99_ms) for p in points]),
        )
    )
    per_minute = [(p.begin_s, p.width_s, 60 * p.pairs / p.width_s) for p in points]
    failures = [(p.begin_s, p.width_s, 60 * p.model_failed / p.width_s) for p in points]
    traffic = (Line("pairs", "of-pairs", per_minute), Line("model failed", "of-bad", failures))
    drawn = (
        (
            "Agreement over time",
            agreement,
            share_scale(_values(agreement)),
            "The share of results that both answers hold. Where the lines lie on each other, the model differs from "
            "the mesh as much as the mesh does from itself.",
        ),
        (
            "Latency over time",
            latency,
            log_scale(_values(latency), "ms"),
            "Time to an answer: half of the answers are faster than p50, all but one in a hundred faster than p99.",
        ),
        (
            "Pairs a minute",
            traffic,
            count_scale(_values(traffic)),
            "Requests that both sides answered, and those that the model failed.",
        ),
    )
    return tuple(
        ChartView(title, svg, f"{caption} Times are in UTC.")
        for title, lines, scale, caption in drawn
        if (svg := chart(lines, scale, now_s, f"{title}: {_latest(lines)}"))
    )


def _values(lines: Sequence[Line]) -> list[float]:
    return [value for line in lines for _, _, value in line.known]


def _latest(lines: Sequence[Line]) -> str:
    """The last value of each line, in words."""
    told = [f"{line.label} {line.known[-1][2]:.3g}" for line in lines if line.known]
    return f"last values: {', '.join(told)}."
