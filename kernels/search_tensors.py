"""What a search takes and finds (kernels/search.py), checked once and held as the native kernel takes it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.coarse import packed_bytes
from meshfold.kernels.expect import expect
from meshfold.kernels.operation import is_plain

_array, _tensor = np.ndarray, torch.from_numpy
_INT64, _FLOAT32 = np.dtype(np.int64), np.dtype(np.float32)


@dataclass(frozen=True, eq=False)
class IvfTensors:
    """N items in C clusters that lie back to back.

    centroids: [C, D] int8, centroid_units, centroid_spreads: [C] float32 - see kernels/probe.py. offsets: [C + 1]
    int64 - cluster c lies at positions offsets[c] to offsets[c + 1]. codes, residuals: [N, D] int8, units: [N] float32,
    rows: [N] int32 - items by position. coarse: [N, P] uint8, packed from the codes - read by native kernels alone:
    without rows where none will.
    """

    centroids: Tensor
    centroid_units: Tensor
    centroid_spreads: Tensor
    offsets: Tensor
    codes: Tensor
    residuals: Tensor
    units: Tensor
    rows: Tensor
    coarse: Tensor

    @cached_property
    def native(self) -> native.Ivf:
        """As the native kernel takes them, checked once."""
        n, d = self.codes.shape
        check_items(self, d)
        expect("coarse", self.coarse, (n, packed_bytes(d)), torch.uint8)
        return native.Ivf.of(*(getattr(self, field.name) for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Limits:
    """Of each query, all [B] int64. budget: survivors to score, unless there are fewer. probes: clusters to open at
    most. depth: candidates to keep, at most k.

    rescored: survivors that are compared from 16 bits for each wanted, at least 1. wanted: of those to keep, how many
    surely are the best; None for all. Others are compared only as many as are kept.
    room: survivors that any query vector scores at most, so that a device has room for them; 0 where that is not known.

    Shapes are checked and addresses are taken once.
    """

    budget: Tensor
    probes: Tensor
    depth: Tensor
    rescored: int
    room: int = 0
    wanted: Tensor | None = None

    @cached_property
    def queries(self) -> int:
        """B. Raises ValueError where the tensors are not those of one batch."""
        b = self.depth.numel()
        for name, limit in zip(("budget", "probes", "depth", "wanted"), self.tensors(), strict=True):
            expect(name, limit, (b,), torch.int64)
        if self.rescored < 1:
            raise ValueError(f"rescored must be at least 1, got {self.rescored}")
        return b

    @cached_property
    def native(self) -> native.Limits | None:
        """As the native kernel takes them; None where they are not in the CPU's memory. Raises as `queries` does."""
        _ = self.queries
        return native.Limits.of(*self.tensors(), self.rescored) if is_plain(*self.tensors()) else None

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As operations take them."""
        return self.budget, self.probes, self.depth, self.depth if self.wanted is None else self.wanted


@dataclass(frozen=True, eq=False)
class Found:
    """positions: [B, T, k] int64 - best first, -1 after the last. similarities: [B, T, k] float32, 0 after the last.
    opened, scored: [B, T] int64 - clusters and items. sampled: [B] int64 - how many pass of the sample, min(N, SAMPLE)
    items at even distances; a native kernel counts them when they are first asked for."""

    positions: Tensor
    similarities: Tensor
    opened: Tensor
    scored: Tensor
    sampled: Tensor

    def __getattr__(self, name: str) -> Tensor:
        # What else a native kernel found, when it is first asked for: tensors take as long to make as small searches.
        held = self.__dict__
        if "_memory" not in held or name not in type(self).__annotations__:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        held[name] = made = _counted(*held["_asked"]) if name == "sampled" else self._made(name)
        return made

    def _made(self, name: str) -> Tensor:
        """Out of the memory that a native kernel wrote to; places as in kernels/cpp/search.cpp."""
        b, t, k = self.positions.shape
        after = b * t * k
        places: dict[str, tuple[tuple[int, ...], np.dtype[Any], int]] = {
            "opened": ((b, t), _INT64, after),
            "scored": ((b, t), _INT64, after + b * t),
            "similarities": ((b, t, k), _FLOAT32, after + 2 * b * t),
        }
        shape, kind, first = places[name]
        made: Tensor = _tensor(_array(shape, kind, self.__dict__["_memory"], 8 * first))
        return made


def check_queries(vectors: Tensor, programs: int, limits: int) -> None:
    """Raises ValueError where the vectors are not [B, T, D] float32. programs, limits: how many each has, B."""
    b, t, d = vectors.shape
    expect("vectors", vectors, (b, t, d), torch.float32)
    if not programs == limits == b:
        raise ValueError(f"{b} queries need as many filters and limits, got {programs} and {limits}")


def check_items(ivf: IvfTensors, d: int) -> None:
    """Raises ValueError where a tensor is not what IvfTensors says, at dimension d."""
    n, c = ivf.codes.shape[0], ivf.offsets.numel() - 1
    expect("centroids", ivf.centroids, (c, d), torch.int8)
    expect("centroid_units", ivf.centroid_units, (c,), torch.float32)
    expect("centroid_spreads", ivf.centroid_spreads, (c,), torch.float32)
    expect("offsets", ivf.offsets, (c + 1,), torch.int64)
    expect("codes", ivf.codes, (n, d), torch.int8)
    expect("residuals", ivf.residuals, (n, d), torch.int8)
    expect("units", ivf.units, (n,), torch.float32)
    expect("rows", ivf.rows, (n,), torch.int32)


def _counted(sample: native.FilterIndex, programs: native.Programs, items: int) -> Tensor:
    """[B] int64: how many of the sample pass each filter. sample: what the sampled of the items hold."""
    counts = torch.empty(programs.queries, dtype=torch.int64)
    function = native.loaded().meshfold_sampled
    native.call(
        function,
        ctypes.byref(sample),
        ctypes.byref(programs),
        ctypes.c_int64(items),
        ctypes.c_void_p(counts.data_ptr()),
    )
    return counts
