"""The stages of a forward pass as bars: benchmarks/plots/forward.svg, from rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.plotting import stages
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
    return stages(rows, STAGES, "p50_ms", PLOT, "ms, medians at batch 1", 5)
