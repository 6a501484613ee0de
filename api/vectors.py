"""Conversion of vectors from common containers to float32 arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from meshfold.model.errors import MeshfoldError
from meshfold.model.types import Float32s


def matrix_of(name: str, vectors: Any, error: Callable[[str], MeshfoldError]) -> Float32s:
    """[n, D] float32. vectors: an array or tensor of real numbers, or lists of them.

    Raises error(message) for other values, such as masked arrays and complex numbers. name: of the argument.
    """
    if isinstance(vectors, torch.Tensor):
        vectors = vectors.detach().cpu()
        vectors = vectors.float() if vectors.is_floating_point() else vectors
    if np.ma.isMaskedArray(vectors):
        raise error(f"{name}: has a mask; expected numbers alone")
    try:
        with np.errstate(over="ignore"):
            given = np.asarray(vectors)
            matrix = np.ascontiguousarray(given.astype(np.float32)) if given.dtype.kind in "fiuO" else None
    except (TypeError, ValueError, RuntimeError, OverflowError) as fault:
        raise error(f"{name}: expected [n, D] numbers: {' '.join(str(fault).split())}") from fault
    if matrix is None:
        raise error(f"{name}: expected [n, D] numbers, got {given.dtype}")
    if matrix.ndim != 2:
        raise error(f"{name}: expected [n, D] numbers, got {list(matrix.shape)}")
    return matrix
