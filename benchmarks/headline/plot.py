"""Where the processor time of a request goes, a bar a side: benchmarks/plots/headline.svg, from rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.plotting import stages
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
    return stages(rows, LABELS, "whole_ms", PLOT, "ms of the processor a request", 3)
