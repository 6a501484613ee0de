"""Finds expressions of an answer that are linear in the order's value and can be inverted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from meshfold.compat.mapped.mapping_file import Part
from meshfold.model.errors import MeshfoldError

# Test values: exact in float32, uneven and unordered, so that no rank and no curve looks linear.
_VALUES = np.array([0.0, 1.0, -2.0, 0.25, 8.0, 0.5], np.float32)
_CLOSE = 1e-6


def line_of(expression: str) -> tuple[float, float] | None:
    """(scale, offset) of an expression that equals scale * value + offset; None for other expressions."""
    # Imported here, since it imports torch, which most mappings do not need.
    from meshfold.compat.mapped.transforms import transform

    try:
        make = transform(Part(Path("the mapping"), {}, (), expression))
        found = [np.asarray(make(_reply(similarity)), np.float64) for similarity in (0.0, 3.0)]
    except MeshfoldError:
        # The expression reads scores of tasks.
        return None
    offset, scale = float(found[0][0]), float(found[0][1] - found[0][0])
    is_line = all(np.allclose(each, scale * _VALUES + offset, rtol=_CLOSE, atol=_CLOSE) for each in found)
    return (scale, offset) if is_line and scale else None


def _reply(similarity: float) -> Any:
    candidates = SimpleNamespace(
        item_ids=np.arange(len(_VALUES)),
        values=_VALUES,
        similarities=np.full(len(_VALUES), similarity, np.float32),
        tasks=(),
        task_scores=np.empty((len(_VALUES), 0), np.float32),
    )
    return SimpleNamespace(candidates=candidates, query=SimpleNamespace(page=None))
