"""Cost of version skew, as bars: benchmarks/plots/skew.svg, from rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.plotting import pyplot, saved
from benchmarks.rows import PLOTS, Row

PLOT = PLOTS / "skew.svg"
_ONE_VERSION, _MIXED = "#4e79a7", "#e15759"


def draw(rows: Sequence[Row]) -> Path:
    """Recall and overlap with the first version's answers, a bar a mesh; returns where it was written."""
    figures = [name for name in rows[0].figures if name.startswith(("recall", "overlap"))]
    figure, axes = pyplot().subplots(1, len(figures), figsize=(9, 0.5 * len(rows) + 1.3), sharey=True)
    names = [row.case for row in rows][::-1]
    colours = [_ONE_VERSION if name.startswith("one version") else _MIXED for name in names]
    for ax, name in zip(axes, figures, strict=True):
        values = [row.figures[name] for row in rows][::-1]
        ax.barh(names, values, color=colours, height=0.6)
        for place, value in enumerate(values):
            ax.text(value + 0.01 * max(values), place, f"{value:.3f}", va="center", fontsize=8)
        ax.set_xlim(0, 1.15 * max(values))
        ax.set_xlabel(name if name.startswith("recall") else f"{name} with the first version's answers")
        ax.spines[["top", "right"]].set_visible(False)
    config = rows[0].config
    figure.text(
        0.99, 0.01, f"{config['data']}, {config['users']} users", ha="right", fontsize=7, color="#777777"
    )
    figure.tight_layout()
    return saved(figure, PLOT)
