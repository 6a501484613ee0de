"""Where the processor time of a request goes, a bar a side: benchmarks/plots/headline.svg, from rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.rows import PLOTS, Row

PLOT = PLOTS / "headline.svg"
# In the order of a request, with a colour each.
LABELS = {
    "tower": ("user tower", "#9c755f"),
    "search": ("filter and search", "#4e79a7"),
    "over_arch": ("OverArch and value", "#e15759"),
    "order": ("merge, order and rest", "#edc948"),
    "messages": ("messages made and read", "#76b7b2"),
    "rest": ("gRPC, queues and threads", "#d7d7d7"),
}


def draw(rows: Sequence[Row]) -> Path:
    """A bar a row, its stages one after the other; returns where it was written."""
    import matplotlib

    matplotlib.use("svg")
    # Equal rows give equal bytes.
    matplotlib.rcParams["svg.hashsalt"] = "meshfold"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 0.75 * len(rows) + 1.6))
    names = [row.case for row in rows][::-1]
    left = [0.0] * len(rows)
    longest = max(row.figures["whole_ms"] for row in rows)
    for stage, (label, colour) in LABELS.items():
        widths = [row.figures[f"{stage}_ms"] for row in rows][::-1]
        axes.barh(names, widths, left=left, color=colour, label=label, height=0.6)
        for place, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width >= 0.035 * longest:
                axes.text(start + width / 2, place, f"{width:.1f}", ha="center", va="center", fontsize=8)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_xlabel("ms of the processor a request")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.45, 1.0), frameon=False, fontsize=8)
    figure.text(0.99, 0.01, rows[0].device, ha="right", fontsize=7, color="#777777")
    figure.tight_layout()
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, metadata={"Date": None})
    pyplot.close(figure)
    return PLOT
