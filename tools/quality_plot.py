"""A plot of quality against latency, with a point for each way to answer and number of candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

# Plotted metrics, by their names in a row.
METRICS = {"recall@50": "Recall@50", "ndcg@50": "NDCG@50"}
# Okabe and Ito's colours, which are distinct to colour-blind people.
_RANKINGS = {"over_arch": ("OverArch", "#0072B2"), "similarity": ("similarity", "#D55E00")}
_SEARCHES: dict[str, tuple[str, Literal["-", "--"]]] = {
    "index": ("through the index", "-"),
    "exact": ("exact search", "--"),
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Least span of an axis, so that small differences look small.
_LEAST_SPAN = 0.1
_GREY = "#555555"


def draw(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Writes a PNG. rows: from tools/evaluation.py. It has a row of panels for each task, a panel for each metric."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    markers = dict(zip(sorted({row["candidates"] for row in rows}), cycle(_MARKERS), strict=False))
    # Not pyplot's, which would use a display and global state.
    figure = Figure(figsize=(10, 1.7 + 3.2 * len(tasks)), dpi=130, layout="constrained")
    panels = figure.subplots(len(tasks), len(METRICS), squeeze=False, sharex=True)
    for task, line in zip(tasks, panels, strict=True):
        of_task = [row for row in rows if row["task"] == task]
        for panel, (metric, name) in zip(line, METRICS.items(), strict=True):
            _draw_panel(panel, of_task, metric, markers)
            panel.set_title(f"{task}, {of_task[0]['users']:,} users", fontsize=10)
            panel.set_ylabel(name)
    panels[0][0].set_xlim(0, 1.08 * max(row["p50_ms"] for row in rows))
    for panel in panels[-1]:
        panel.set_xlabel("latency of a query, median, ms")
    figure.suptitle(f"Quality against latency: {title}", fontsize=11)
    figure.legend(handles=_legend(rows, markers), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path)


def _draw_panel(
    panel: Axes, rows: Sequence[Mapping[str, Any]], metric: str, markers: Mapping[int, str]
) -> None:
    for search, (_, dashes) in _SEARCHES.items():
        for ranking, (_, colour) in _RANKINGS.items():
            line = [row for row in rows if (row["search"], row["ranking"]) == (search, ranking)]
            panel.plot([r["p50_ms"] for r in line], [r[metric] for r in line], dashes, color=colour)
            for row in line:
                panel.plot(
                    row["p50_ms"],
                    row[metric],
                    markers[row["candidates"]],
                    color=colour,
                    # Rings, so that points of both kinds are visible in one place.
                    markerfacecolor=colour if search == "index" else "none",
                    markersize=5 if search == "index" else 9,
                )
    values = [row[metric] for row in rows]
    middle = (min(values) + max(values)) / 2
    half = max(0.65 * (max(values) - min(values)), _LEAST_SPAN * middle, 1e-3)
    panel.set_ylim(max(0.0, middle - half), middle + half)
    panel.yaxis.set_major_locator(MaxNLocator(6))
    panel.grid(alpha=0.25, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def _legend(rows: Sequence[Mapping[str, Any]], markers: Mapping[int, str]) -> list[Line2D]:
    """The legend: ways to answer, then numbers of candidates."""
    there = {(row["search"], row["ranking"]) for row in rows}
    ways = [
        Line2D(
            [],
            [],
            color=colour,
            linestyle=dashes,
            marker="o",
            markerfacecolor=colour if search == "index" else "none",
            markersize=5 if search == "index" else 9,
            label=f"{ranking_name}, {search_name}",
        )
        for ranking, (ranking_name, colour) in _RANKINGS.items()
        for search, (search_name, dashes) in _SEARCHES.items()
        if (search, ranking) in there
    ]
    counts = [
        Line2D([], [], color=_GREY, linestyle="", marker=marker, label=f"{count:,} candidates")
        for count, marker in markers.items()
    ]
    return ways + counts
