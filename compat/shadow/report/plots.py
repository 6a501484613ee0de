"""The plots of a surface. They contain only numbers and our own words, no text from the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from meshfold.compat.shadow.comparison import Drift, Latency, SurfaceComparison
from meshfold.compat.shadow.report.svg import AGAIN, INK, LINE, MESH, MODEL, SOFT, draw_svg
from meshfold.compat.shadow.report.texts import milliseconds, percent
from meshfold.compat.shadow.report.ticks import log_ticks
from meshfold.compat.shadow.report.words import side_label

# Most points of a scatter plot and of a curve, which keeps pages small.
_MOST_POINTS, _MOST_CURVE = 300, 200
_SIDES = {"mesh": MESH, "model": MODEL, "again": AGAIN}
_QUANTILES = {"p50": "o", "p90": "s", "p99": "D"}

T = TypeVar("T")


@dataclass(frozen=True)
class Plot:
    """svg: an element for a page. caption: how to read it."""

    title: str
    svg: str
    caption: str


def plots_of(surface: SurfaceComparison, number: int) -> tuple[Plot, ...]:
    """The plots for which a surface has figures. number: the surface's number on the page, for ids."""
    plots = (
        _agreement(surface.curve, f"s{number}-agreement"),
        _overlaps(surface.histogram, f"s{number}-overlaps"),
        _drift(surface.drift, f"s{number}-drift"),
        _latency(surface.latencies, f"s{number}-latency"),
    )
    return tuple(plot for plot in plots if plot is not None)


def _agreement(curve: Sequence[tuple[int, float, float]], name: str) -> Plot | None:
    known = [
        (depth, share, noise) for depth, share, noise in _thinned(curve, _MOST_CURVE) if math.isfinite(share)
    ]
    if not known:
        return None
    noisy = [(depth, noise) for depth, _, noise in known if math.isfinite(noise)]

    def draw(axes: Axes) -> None:
        if noisy:
            axes.plot(*zip(*noisy, strict=True), color=MESH, linestyle="--", label="mesh and itself")
        axes.plot([d for d, *_ in known], [s for _, s, _ in known], color=MODEL, label="model and mesh")
        low = min([s for _, s, _ in known] + [n for _, n in noisy])
        axes.set_ylim(max(0.0, math.floor(10 * low - 0.5) / 10), 1.0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        _depth_axis(axes, known[0][0], known[-1][0])
        axes.set_xlabel("first results of an answer")
        axes.legend(loc="lower right")

    first, last = known[0], known[-1]
    alternative = (
        f"Line plot of the mean overlap. Model and mesh share {percent(first[1])} of the first {first[0]} and "
        f"{percent(last[1])} of the first {last[0]} results."
    )
    if noisy:
        alternative += f" The mesh shares {percent(noisy[-1][1])} of the first {noisy[-1][0]} with itself."
    caption = "The share of results that both answers hold, by how many of the first results are compared."
    if noisy:
        caption += " The gap between the lines is the difference beyond the mesh's own noise."
    return Plot("Agreement over rank", draw_svg(name, alternative, draw), caption)


def _depth_axis(axes: Axes, first: int, last: int) -> None:
    """Formats the axis of depths: whole numbers, logarithmic where they span more than a factor of ten."""
    if last > 10 * max(first, 1):
        axes.set_xscale("log")
        ticks = [d for e in range(7) for d in (10**e, 2 * 10**e, 5 * 10**e) if first <= d <= last]
        axes.xaxis.set_major_locator(
            FixedLocator(ticks if len(ticks) <= 8 else [t for t in ticks if str(t)[0] == "1"])
        )
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda depth, _: f"{depth:g}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _overlaps(histogram: tuple[Sequence[int], Sequence[int]], name: str) -> Plot | None:
    difference, noise = histogram
    total, noise_total = sum(difference), sum(noise)
    if not total:
        return None

    def draw(axes: Axes) -> None:
        edges = np.linspace(0, 1, len(difference) + 1)
        axes.stairs(np.asarray(difference) / total, edges, fill=True, color=MODEL, alpha=0.35)
        axes.stairs(np.asarray(difference) / total, edges, color=MODEL, linewidth=1.5, label="model and mesh")
        if noise_total:
            own = np.linspace(0, 1, len(noise) + 1)
            axes.stairs(
                np.asarray(noise) / noise_total,
                own,
                color=MESH,
                linewidth=1.8,
                linestyle="--",
                label="mesh and itself",
            )
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("overlap of two answers")
        axes.set_ylabel("share of pairs")
        axes.legend(loc="upper left")

    half = sum(difference[: len(difference) // 2]) / total
    alternative = (
        f"Histogram of the overlap of {total:,} pairs. {percent(half)} of them share less than half."
    )
    caption = (
        "How many pairs have which overlap. A hill at the left end is a group of requests that fares badly."
    )
    return Plot("Overlap of single pairs", draw_svg(name, alternative, draw), caption)


def _drift(drift: Drift | None, name: str) -> Plot | None:
    if drift is None or not (drift.points or drift.curve):
        return None
    points = _finite(_thinned(drift.points, _MOST_POINTS))
    curve = _finite(_thinned(drift.curve, _MOST_CURVE))

    def draw(axes: Axes) -> None:
        if points:
            axes.plot(*zip(*points, strict=True), "o", color=MODEL, alpha=0.45, markersize=3, label="an item")
        if curve:
            axes.plot(*zip(*curve, strict=True), color=INK, linewidth=1.5, label="the fit")
        axes.set_xlabel("value in the mesh")
        axes.set_ylabel("value in the model")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if points or curve:
            axes.legend(loc="upper left")

    error = percent(drift.error.value)
    alternative = (
        f"Scatter plot of common items' values. The median distance from the fit is {error} of the spread."
    )
    caption = (
        f"The values of {drift.items:,} items that both answers hold, and one increasing fit from the mesh's values to "
        f"the model's, made on other pairs. The median item is {error} of the model's interquartile range away. "
        "Points on the line mean that the scales differ, but not the order."
    )
    return Plot("Score drift", draw_svg(name, alternative, draw), caption)


def _latency(latencies: Sequence[Latency], name: str) -> Plot | None:
    shown = [
        latency
        for latency in latencies
        if latency.side in _SIDES
        and all(math.isfinite(q) and q > 0 for q in (latency.p50, latency.p90, latency.p99))
    ]
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        for row, latency in enumerate(reversed(shown)):
            colour = _SIDES[latency.side]
            axes.plot([latency.p50, latency.p99], [row, row], color=colour, linewidth=2)
            for quantile, marker in _QUANTILES.items():
                axes.plot(getattr(latency, quantile), row, marker, color=colour, markersize=8)
        for quantile, marker in _QUANTILES.items():
            axes.plot([], [], marker, color=SOFT, linestyle="", label=quantile)
        axes.set_yticks(
            range(len(shown)), [side_label(latency.side).replace(", ", ",\n") for latency in reversed(shown)]
        )
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.grid(visible=False, axis="y")
        least, most = min(latency.p50 for latency in shown), max(latency.p99 for latency in shown)
        axes.set_xscale("log")
        axes.set_xlim(least / 1.4, most * 1.4)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(FixedLocator(log_ticks(least / 1.4, most * 1.4)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
        axes.set_xlabel("latency, ms")
        axes.legend(loc="lower center", ncols=3, bbox_to_anchor=(0.5, 1.0), handletextpad=0.2)
        axes.spines["left"].set_color(LINE)

    texts = "; ".join(
        f"{side_label(each.side)} p50 {milliseconds(each.p50)}, p99 {milliseconds(each.p99)}"
        for each in shown
    )
    caption = "Median, p90 and p99 of the time to an answer, on a logarithmic axis."
    return Plot("Latency", draw_svg(name, f"Latency by side: {texts}.", draw), caption)


def _thinned(values: Sequence[T], most: int) -> Sequence[T]:
    """An even selection of at most `most` values, with the first and the last."""
    if len(values) <= most:
        return values
    return [values[i * (len(values) - 1) // (most - 1)] for i in range(most)]


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
