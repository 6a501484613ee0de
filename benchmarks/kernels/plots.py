"""Curves of recall against time from the newest rows of `compare.py`: python -m benchmarks.kernels.plots"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.kernels.points import (
    DEFAULT,
    FAST_SCAN,
    IN_LISTS,
    REFERENCE,
    ROARING,
    SQ8,
    UNIFORM,
    points_of,
)
from benchmarks.plotting import pyplot, saved
from benchmarks.rows import PLOTS, Row, newest_rows

K = 1000
# (colour, marker, line width), of the Okabe-Ito palette: distinct with colour blindness.
STYLES = {
    DEFAULT: ("#D55E00", "o", 2.2),
    IN_LISTS: ("#E69F00", "s", 1.6),
    SQ8: ("#0072B2", "^", 1.2),
    UNIFORM: ("#56B4E9", "v", 1.2),
    FAST_SCAN: ("#009E73", "D", 1.2),
    ROARING: ("#444444", "*", 1.2),
    REFERENCE: ("#AAAAAA", "x", 1.2),
}
_TICKS = {0.5: "0.5", 0.8: "0.8", 0.9: "0.9", 0.97: "0.97", 0.99: "0.99", 0.999: "0.999", 0.9997: "1"}
_LOWEST, _EXACT = 0.4, 0.9997
_KINDS = ("item-like", "user-like")
_SHARES = (0.1, 0.01, 0.001)
# By name of the file: lines of panels, each of (kind of queries, filter).
FIGURES = {
    "kernels.svg": [
        [(kind, "100 %"), *((kind, f"{share * 100:g} % independent") for share in _SHARES)] for kind in _KINDS
    ],
    "kernels-correlated.svg": [
        [(kind, f"{share * 100:g} % {side}") for share in _SHARES]
        for side in ("near", "far")
        for kind in _KINDS
    ],
}


def main() -> None:
    rows = [row for row in newest_rows("kernels") if row.config["part"] == "curve"]
    rows = [row for row in rows if row.config["k"] == K and row.config["batch"] * row.config["threads"] == 1]
    for name, lines in FIGURES.items():
        print(draw(rows, lines, PLOTS / name))


def draw(rows: Sequence[Row], lines: Sequence[Sequence[tuple[str, str]]], path: Path) -> Path:
    """Panels of recall against time. lines: of panels, each the queries and the filter of a row."""
    plt = pyplot()
    plt.rcParams |= {"svg.fonttype": "none", "font.size": 9}
    height, width = len(lines), len(lines[0])
    total = 2.6 * height + 1.1  # inches, with the title and what the lines are
    figure, panels = plt.subplots(
        *(height, width), figsize=(2.9 * width + 0.4, total), sharex=True, sharey=True
    )
    of_case = {(row.config["queries"], row.config["filter"]): row for row in rows}
    for line, of_line in zip(lines, panels, strict=True):
        for case, panel in zip(line, of_line, strict=True):
            _panel(panel, of_case[case])
            kind, filter_ = case
            panel.set_title(f"{kind} queries, {_passing(filter_)}", fontsize=9)
        of_line[0].set_ylabel("a query, ms (median)")
    for panel in panels[-1]:
        panel.set_xlabel(f"recall of the {K:,} best")
    named = {
        text: handle
        for panel in panels.flat
        for handle, text in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    shown = [system for system in STYLES if system in named]
    figure.legend([named[s] for s in shown], shown, loc="lower center", ncols=4, frameon=False)
    config = rows[0].config
    figure.suptitle(
        f"{config['items']:,} items x {config['dimension']}, top {K:,}, one query at a time on one thread,"
        " filters on the clock. Lower and to the right is better.",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0.5 / total, 1, 1 - 0.05 / total))
    return saved(figure, path)


def _panel(panel: Axes, row: Row) -> None:
    points = points_of(row)
    for system, (colour, marker, width) in STYLES.items():
        own = [p for p in points if p.system == system and p.recall >= _LOWEST]
        if own:
            recalls = [min(p.recall, _EXACT) for p in own]
            times = [p.p50_ms for p in own]
            panel.plot(recalls, times, color=colour, marker=marker, lw=width, ms=4.5, label=system)
    panel.set_yscale("log")
    panel.set_xscale("function", functions=(_stretched, lambda x: 1 - 10.0**-x))
    panel.set_xlim(_LOWEST, 0.9999)
    panel.set_xticks(list(_TICKS), list(_TICKS.values()), fontsize=7.5)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
    panel.grid(alpha=0.35, lw=0.5)


def _stretched(recall: Any) -> Any:
    """Every tenth of what is missed takes as much room."""
    return -np.log10(np.maximum(1 - recall, 1e-9))


def _passing(filter_: str) -> str:
    share, _, relation = filter_.partition(" % ")
    if not relation:
        return "nothing filtered"
    return f"{share} % pass" + ("" if relation == "independent" else f", {relation}")


if __name__ == "__main__":
    main()
