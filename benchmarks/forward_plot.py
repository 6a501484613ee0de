"""The stages of a forward pass as bars: benchmarks/plots/forward.svg, from rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.rows import PLOTS, Row

PLOT = PLOTS / "forward.svg"
# In the order of a forward pass, with a colour each.
STAGES = {
    "user_tower": ("user tower", "#9c755f"),
    "quantise": ("quantise", "#bab0ac"),
    "search": ("filter and search", "#4e79a7"),
    "merge": ("merge tasks", "#76b7b2"),
    "rescore": ("re-score", "#59a14f"),
    "candidates": ("best candidates", "#edc948"),
    "over_arch": ("OverArch", "#e15759"),
    "value": ("value formula", "#b07aa1"),
    "other": ("order and rest", "#d7d7d7"),
}


def draw(rows: Sequence[Row]) -> Path:
    """A bar a row, its stages one after the other; returns where it was written."""
    import matplotlib

    matplotlib.use("svg")
    # Equal rows give equal bytes.
    matplotlib.rcParams["svg.hashsalt"] = "meshfold"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 0.75 * len(rows) + 1.9))
    names = [row.case for row in rows][::-1]
    left = [0.0] * len(rows)
    for stage, (label, colour) in STAGES.items():
        widths = [row.figures.get(f"{stage}_ms", 0.0) for row in rows][::-1]
        axes.barh(names, widths, left=left, color=colour, label=label, height=0.6)
        for place, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width >= 0.035 * max(row.figures["p50_ms"] for row in rows):
                axes.text(start + width / 2, place, f"{width:.1f}", ha="center", va="center", fontsize=8)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_xlabel("ms, medians at batch 1")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.4, 1.0), frameon=False, fontsize=8)
    figure.text(0.99, 0.01, rows[0].device, ha="right", fontsize=7, color="#777777")
    figure.tight_layout()
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, metadata={"Date": None})
    pyplot.close(figure)
    return PLOT
