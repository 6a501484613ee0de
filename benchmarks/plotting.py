"""Plots of rows: equal rows give equal bytes, and stages are bars one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rows import Row


def pyplot() -> Any:
    """matplotlib.pyplot, which draws into files alone."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "meshfold"
    from matplotlib import pyplot

    return pyplot


def saved(figure: Any, path: Path) -> Path:
    """Where the figure was written. It is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot().close(figure)
    return path


def stages(
    rows: Sequence[Row],
    labels: Mapping[str, tuple[str, str]],
    whole: str,
    path: Path,
    unit: str,
    columns: int,
) -> Path:
    """A bar a row, its stages one after the other; returns where it was written.

    labels: by stage, its label and colour. whole: the figure that widths of labels are measured by. unit: below the
    axis. columns: of the legend.
    """
    figure, axes = pyplot().subplots(figsize=(9, 0.75 * len(rows) + 1.9))
    names = [row.case for row in rows][::-1]
    left = [0.0] * len(rows)
    longest = max(row.figures[whole] for row in rows)
    for stage, (label, colour) in labels.items():
        widths = [row.figures.get(f"{stage}_ms", 0.0) for row in rows][::-1]
        axes.barh(names, widths, left=left, color=colour, label=label, height=0.6)
        for place, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width >= 0.035 * longest:
                axes.text(start + width / 2, place, f"{width:.1f}", ha="center", va="center", fontsize=8)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=columns, loc="lower center", bbox_to_anchor=(0.4, 1.0), frameon=False, fontsize=8)
    figure.text(0.99, 0.01, rows[0].device, ha="right", fontsize=7, color="#777777")
    figure.tight_layout()
    return saved(figure, path)
