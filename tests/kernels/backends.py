"""Native levels, numbers of threads and memory under which every kernel answers alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from meshfold.kernels.native import library

LEVELS = [level for level in library.levels() if level != "reference"]


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def filled_memory() -> Iterator[None]:
    """torch.empty is full of NaN or of the largest integers."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(3).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(False)
