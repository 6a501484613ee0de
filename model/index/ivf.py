"""The index as a module: items as int8 codes and residuals, in the order of clusters."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Self

import torch
from torch import Tensor, nn

from meshfold.kernels.filter.steps import FilterBatch, FilterTensors
from meshfold.kernels.search.coarse import pack_coarse, packed_bytes
from meshfold.kernels.search.ivf_search import search
from meshfold.kernels.search.rescore import rescore
from meshfold.kernels.search.sample import SAMPLE
from meshfold.kernels.search.tensors import Found, IvfTensors, Limits
from meshfold.kernels.vectors.items import item_vectors
from meshfold.kernels.vectors.quantize import FINE_MAX, Quantized, quantize
from meshfold.model.huge_pages import in_huge_pages, interleaved

# A query scores at least this number of survivors for each candidate, even above the calibrated budget.
SCORED_PER_CANDIDATE = 2
# Survivors rescored with 16 bits for each of max_results, and one for each candidate at least. With 2, the best
# survivors by 4 bits contain 995 in 1,000 of the best results.
RESCORED_PER_RESULT = 2


class Plan(StrEnum):
    """The plans of a search, for explanations. The search itself has one rule for all of them."""

    PROBING = "probing"  # all items pass: the nearest clusters, until they have the budget of items
    WIDER = "wider probing"  # more clusters, until they have the budget of survivors
    EXACT = "exact over survivors"  # fewer survivors than the budget are expected: all are scored


def plan_of(items: int, sampled: int, budget: int) -> tuple[Plan, float]:
    """(the plan, the pass rate). sampled: number of items of the sample that pass the filter."""
    size = min(items, SAMPLE)
    rate = sampled / size
    if rate * items <= budget:
        return Plan.EXACT, rate
    return Plan.PROBING if sampled == size else Plan.WIDER, rate


class IvfIndex(nn.Module):
    """The IVF index of a snapshot.

    items: codes [N, D]. rows: [N] int32. centroids: [C, D] int8. offsets: [C + 1] int64. centroid_units,
    centroid_spreads: [C] float32. scan_budget: number of survivors that a query scores, fewer where fewer exist.
    """

    codes: Tensor
    residuals: Tensor
    units: Tensor
    rows: Tensor
    centroids: Tensor
    centroid_units: Tensor
    centroid_spreads: Tensor
    offsets: Tensor

    def __init__(
        self,
        items: Quantized,
        rows: Tensor,
        centroids: Tensor,
        centroid_units: Tensor,
        centroid_spreads: Tensor,
        offsets: Tensor,
        scan_budget: int,
    ) -> None:
        super().__init__()
        self.register_buffer("codes", items.codes)
        self.register_buffer("residuals", items.residuals)
        self.register_buffer("units", items.scales)
        self.register_buffer("rows", rows)
        self.register_buffer("centroids", centroids)
        self.register_buffer("centroid_units", centroid_units)
        self.register_buffer("centroid_spreads", centroid_spreads)
        self.register_buffer("offsets", offsets)
        self._scan_budget = scan_budget
        # Cached, because kernels check each new IvfTensors once.
        self._cached: IvfTensors | None = None
        # Clusters are opened as a whole, so that the last one may exceed the budget by its size.
        self._largest_cluster = int(offsets.diff().max()) if offsets.numel() > 1 else 0

    def in_huge_pages(self) -> Self:
        """Copies codes and residuals (2 D bytes an item) into huge pages, where those of an item are adjacent.

        Reads are faster than from a mapped file. Coarse codes, which a CPU's search adds, are in huge pages, too.
        """
        self.codes, self.residuals = interleaved([self.codes, self.residuals])
        return self

    def search(
        self,
        vectors: Tensor,
        filter_: FilterTensors,
        filters: FilterBatch,
        candidates: Tensor,
        most_candidates: int,
        max_results: Tensor | None = None,
    ) -> Found:
        """The best eligible items for each query vector, in order.

        vectors: [B, T, D] float32. candidates: [B] int64. most_candidates: their limit, and the number of columns of
        the result. max_results: [B] int64 - number of first candidates that must be the best; None for all.
        """
        return self.search_parts(vectors, [filter_], filters, candidates, most_candidates, max_results)

    def search_parts(
        self,
        vectors: Tensor,
        parts: Sequence[FilterTensors],
        filters: FilterBatch,
        candidates: Tensor,
        most_candidates: int,
        max_results: Tensor | None = None,
    ) -> Found:
        """The same as search. parts: the filter tensors of each shard; one shard here."""
        (filter_,) = parts
        limits = Limits(
            self.budget_of(candidates),
            torch.full_like(candidates, self.centroids.shape[0]),
            candidates,
            RESCORED_PER_RESULT,
            self.room(most_candidates),
            max_results,
        )
        return search(vectors, self.tensors(), filter_, filters, limits, most_candidates)

    def tensors(self) -> IvfTensors:
        """The index tensors, for search kernels."""
        tensors = self._cached
        if tensors is None or tensors.codes is not self.codes:
            tensors = IvfTensors(
                self.centroids,
                self.centroid_units,
                self.centroid_spreads,
                self.offsets,
                self.codes,
                self.residuals,
                self.units,
                self.rows,
                self._coarse(),
            )
            # Traced tensors must not be kept.
            if not torch.compiler.is_compiling():
                self._cached = tensors
        return tensors

    def _coarse(self) -> Tensor:
        """The packed coarse codes on a CPU, for native kernels; empty elsewhere, where kernels use codes' high bits."""
        if self.codes.is_cpu:
            return in_huge_pages(pack_coarse(self.codes))
        return self.codes.new_empty((0, packed_bytes(self.codes.shape[1])), dtype=torch.uint8)

    def room(self, most_candidates: int) -> int:
        """The largest number of survivors that a query vector can score."""
        return max(most_candidates * SCORED_PER_CANDIDATE, self._scan_budget) + self._largest_cluster

    def plan(self, sampled: int, candidates: int) -> tuple[Plan, float]:
        """(the plan of a query, the pass rate). sampled: number of items of the sample that pass the filter."""
        return plan_of(self.rows.numel(), sampled, int(self.budget_of(torch.tensor(candidates))))

    def budget_of(self, candidates: Tensor) -> Tensor:
        """[B] int64: number of survivors to score, fewer where fewer exist. candidates: [B] int64.

        Queries with 0 candidates, which pad a batch, have budget 0.
        """
        return torch.where(
            candidates > 0, (candidates * SCORED_PER_CANDIDATE).clamp(min=self._scan_budget), 0
        )

    def similarities(self, queries: Quantized, positions: Tensor) -> Tensor:
        """[B, T, M] float32 from code and residual. queries: codes [B, T, D]. positions: [B, M] int64."""
        return rescore(queries, Quantized(self.codes, self.residuals, self.units), positions)

    def vectors(self, positions: Tensor) -> Tensor:
        """[..., D] float32: the items' vectors. positions: [...] int64; -1 gives the vector of some item."""
        return item_vectors(Quantized(self.codes, self.residuals, self.units), positions)

    def coded(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(codes: [..., D] int8, peaks: [...] float32, the largest magnitude of a vector) of the items.

        positions: [...] int64; -1 gives values of some item.
        """
        at = positions.clamp(min=0).flatten()
        codes = self.codes.index_select(0, at).view(*positions.shape, -1)
        return codes, (self.units[at] * FINE_MAX).view(positions.shape)

    @staticmethod
    def quantize(vectors: Tensor) -> Quantized:
        """Quantised query vectors, for comparison with items. vectors: [B, T, D] float32."""
        return quantize(vectors)
