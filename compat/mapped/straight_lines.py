"""Expressions of an answer that are straight lines of the order's value, which can be read back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from meshfold.compat.mapped.mapping_file import Part
from meshfold.model.errors import MeshfoldError

# Exact in float32, unevenly spaced and not in order, so that no rank and no curve passes for the value.
_VALUES = np.array([0.0, 1.0, -2.0, 0.25, 8.0, 0.5], np.float32)
_CLOSE = 1e-6


def line_of(expression: str) -> tuple[float, float] | None:
    """(scale, offset) of an expression that is scale * value + offset; None for another one."""
    # Brings torch along, which most mappings do not need.
    from meshfold.compat.mapped.transforms import transform

    try:
        make = transform(Part(Path("the mapping"), {}, (), expression))
        found = [np.asarray(make(_reply(similarity)), np.float64) for similarity in (0.0, 3.0)]
    except MeshfoldError:
        # It reads scores of tasks.
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
