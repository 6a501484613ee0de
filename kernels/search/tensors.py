"""Arguments and results of a search (kernels/search/ivf_search.py), checked once and kept as native structs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.native import structs
from meshfold.kernels.operation import is_plain
from meshfold.kernels.search.coarse import packed_bytes


@dataclass(frozen=True, eq=False)
class IvfTensors:
    """N items in C clusters that lie back to back.

    centroids: [C, D] int8, centroid_scales, centroid_spreads: [C] float32 - see kernels/search/probe.py. offsets: [C +
    1] int64 - cluster c is positions offsets[c] to offsets[c + 1]. codes, residuals: [N, D] int8, scales: [N] float32,
    rows: [N] int32 - items by position. coarse: [N, P] uint8, packed from the codes - only native kernels read it: [0,
    P] where none will.
    """

    centroids: Tensor
    centroid_scales: Tensor
    centroid_spreads: Tensor
    offsets: Tensor
    codes: Tensor
    residuals: Tensor
    scales: Tensor
    rows: Tensor
    coarse: Tensor

    @cached_property
    def native(self) -> structs.Ivf:
        """The struct of native kernels, checked and made once."""
        n, d = self.codes.shape
        self.check(d)
        expect("coarse", self.coarse, (n, packed_bytes(d)), torch.uint8)
        return structs.Ivf.of(*(getattr(self, field.name) for field in fields(self)))

    def check(self, d: int) -> None:
        """Raises ValueError unless the tensors have these shapes, at dimension d."""
        n, c = self.codes.shape[0], self.offsets.numel() - 1
        expect("centroids", self.centroids, (c, d), torch.int8)
        expect("centroid_scales", self.centroid_scales, (c,), torch.float32)
        expect("centroid_spreads", self.centroid_spreads, (c,), torch.float32)
        expect("offsets", self.offsets, (c + 1,), torch.int64)
        expect("codes", self.codes, (n, d), torch.int8)
        expect("residuals", self.residuals, (n, d), torch.int8)
        expect("scales", self.scales, (n,), torch.float32)
        expect("rows", self.rows, (n,), torch.int32)


@dataclass(frozen=True, eq=False)
class Limits:
    """Limits of each query, all [B] int64. budget: survivors to score, unless there are fewer. probes: clusters to open
    at most. candidates: items to return, at most the columns of the result.

    rescored: survivors compared from 16 bits for each of max_results, at least 1. max_results: candidates that surely
    are the best; None for all. Beyond them, only as many survivors are compared as there are candidates.
    room: survivors that any query vector scores at most, for which a device reserves memory; 0 if unknown.

    Shapes are checked and addresses are taken once.
    """

    budget: Tensor
    probes: Tensor
    candidates: Tensor
    rescored: int
    room: int = 0
    max_results: Tensor | None = None

    @cached_property
    def queries(self) -> int:
        """B. Raises ValueError unless the tensors have the shape of one batch."""
        b = self.candidates.numel()
        for name, limit in zip(
            ("budget", "probes", "candidates", "max_results"), self.tensors(), strict=True
        ):
            expect(name, limit, (b,), torch.int64)
        if self.rescored < 1:
            raise ValueError(f"rescored must be at least 1, got {self.rescored}")
        return b

    @cached_property
    def native(self) -> structs.Limits | None:
        """The struct of native kernels; None for tensors outside the CPU's memory. Raises as `queries` does."""
        _ = self.queries
        return structs.Limits.of(*self.tensors(), self.rescored) if is_plain(*self.tensors()) else None

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """budget, probes, candidates, max_results."""
        most = self.candidates if self.max_results is None else self.max_results
        return self.budget, self.probes, self.candidates, most


@dataclass(frozen=True, eq=False)
class Found:
    """positions: [B, T, most_candidates] int64 - best first, -1 after the last. similarities: the same shape, float32,
    0 after the last. opened, scored: [B, T] int64 - clusters and items. sampled: [B] int64 - items of the sample that
    pass the filter; the sample is min(N, SAMPLE) items at even distances."""

    positions: Tensor
    similarities: Tensor
    opened: Tensor
    scored: Tensor
    sampled: Tensor


def check_queries(vectors: Tensor, filters: int, limits: int) -> None:
    """Raises ValueError unless the vectors are [B, T, D] float32. filters, limits: queries of each, B."""
    b, t, d = vectors.shape
    expect("vectors", vectors, (b, t, d), torch.float32)
    if not filters == limits == b:
        raise ValueError(f"{b} queries need as many filters and limits, got {filters} and {limits}")
