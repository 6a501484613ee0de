"""The index with its items on several devices. Results are the same as on one device.

1  each shard filters its own items and counts the survivors of its clusters
2  the first device adds the counts and opens clusters, by the rule of kernels/search/ivf_search.py
3  each shard scans its own opened clusters, and rescores its pool with 16 bits
4  the first device selects the pool of all shards, by coarse score and row, and from it the best, by similarity and row

Opened clusters, scored items and candidates therefore do not depend on the number of shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meshfold.kernels.filter.bundles import contains, held_in
from meshfold.kernels.filter.eligible import eligible
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors
from meshfold.kernels.search.coarse import coarse_values
from meshfold.kernels.search.ivf_search import search
from meshfold.kernels.search.ordered import NOTHING, best, keys
from meshfold.kernels.search.probe import probe_order
from meshfold.kernels.search.sample import sample_positions
from meshfold.kernels.search.tensors import Found, IvfTensors, Limits
from meshfold.kernels.vectors.quantize import Quantized, quantize
from meshfold.model.index.ivf import RESCORED_PER_RESULT, IvfIndex, Plan, plan_of
from meshfold.model.index.placement import Placement, filters_on, local, sum_of

_ALL = 2**62


class ShardedIndex(IvfIndex):
    """An index over several shards. Positions are stored positions (placement.py).

    shards: each with all centroids, its own items, and size 0 for clusters of other shards. rows: [stored] int32; its
    device is the first device. The module has no items of its own.
    """

    def __init__(
        self, shards: Sequence[IvfIndex], placement: Placement, rows: Tensor, scan_budget: int
    ) -> None:
        first, device = shards[0], rows.device
        super().__init__(
            Quantized(first.codes[:0], first.residuals[:0], first.units[:0]),
            rows,
            first.centroids.to(device),
            first.centroid_units.to(device),
            first.centroid_spreads.to(device),
            placement.offsets.to(device),
            scan_budget,
        )
        self.shards = nn.ModuleList(shards)
        stored = placement.stored()
        sample = stored[sample_positions(stored.numel())]
        for shard, index in enumerate(shards):
            own = local(sample, placement.bases, shard)
            self.register_buffer(f"_sample_{shard}", own[own >= 0].to(index.codes.device))
        self._items = stored.numel()
        # The item whose values an index on one device returns for position -1.
        self._first = int(stored[0])
        self._bases = placement.bases

    def search_parts(
        self,
        vectors: Tensor,
        parts: Sequence[FilterTensors],
        filters: FilterBatch,
        candidates: Tensor,
        most_candidates: int,
        max_results: Tensor | None = None,
    ) -> Found:
        device, shards = self.rows.device, self._shards()
        b, t, _ = vectors.shape
        codes = self.quantize(vectors).codes
        owned = [
            filters_on(filters, self._bases, shard, index.codes.device) for shard, index in enumerate(shards)
        ]
        # Calls are asynchronous on GPUs, so that the shards work in parallel.
        counted = [
            self._counted(index, filter_, shard, of_shard)
            for shard, (index, filter_, of_shard) in enumerate(zip(shards, parts, owned, strict=True))
        ]
        in_cluster = sum_of([own for own, _ in counted], device)
        opened, scored = self._opened(codes, in_cluster, candidates)
        results = candidates if max_results is None else torch.minimum(max_results, candidates)
        pool = torch.maximum(candidates, results * RESCORED_PER_RESULT)
        pools = [
            self._scanned(index, filter_, of_shard, vectors, opened, pool, most_candidates)
            for index, filter_, of_shard in zip(shards, parts, owned, strict=True)
        ]
        stored = [
            torch.where(own.positions < 0, -1, own.positions + base).to(device)
            for own, base in zip(pools, self._bases, strict=False)
        ]
        positions, scores, similarities = (
            torch.cat(of_shards, 1)
            for of_shards in (
                stored,
                [own.scores.to(device) for own in pools],
                [own.similarities.to(device) for own in pools],
            )
        )
        positions, similarities = self._best(
            positions, scores, similarities, pool.repeat_interleave(t), most_candidates * RESCORED_PER_RESULT
        )
        positions, similarities = self._best(
            positions, similarities, similarities, candidates.repeat_interleave(t), most_candidates
        )
        return Found(
            positions.view(b, t, most_candidates),
            similarities.view(b, t, most_candidates),
            opened,
            scored,
            sum_of([s for _, s in counted], device),
        )

    def _best(
        self, positions: Tensor, scores: Tensor, similarities: Tensor, kept: Tensor, most: int
    ) -> tuple[Tensor, Tensor]:
        """(positions, similarities), both [Q, most]: the `kept` best by score, ties to the smaller row, then -1 and 0.

        positions, scores, similarities: [Q, M]; position -1 is padding. kept: [Q] int64, `most` or less.
        """
        rows = self.rows[positions.clamp(min=0)].long()
        best_keys, places = best(torch.where(positions >= 0, keys(scores, rows), NOTHING), most)
        real = best_keys > NOTHING
        real &= torch.arange(real.shape[1], device=real.device) < kept[:, None]
        return (
            torch.where(real, positions.gather(1, places), -1),
            torch.where(real, similarities.gather(1, places), 0.0),
        )

    def _counted(
        self, index: IvfIndex, filter_: FilterTensors, shard: int, filters: FilterBatch
    ) -> tuple[Tensor, Tensor]:
        """(number of survivors in each cluster of the shard: [B, C]; of items of the sample that pass: [B])."""
        b, device = filters.steps.shape[0], index.codes.device
        everyone = torch.ones(b, dtype=torch.bool, device=device)
        bits = eligible(filter_, filters, everyone, index.codes.shape[0]).bits
        sample = self.get_buffer(f"_sample_{shard}")
        sampled = [contains(of_query, sample).sum() for of_query in bits]
        return held_in(bits, index.offsets), torch.stack(sampled)

    def _opened(self, codes: Tensor, in_cluster: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """(number of opened clusters, of survivors in them), both [B, T] int64. in_cluster: [B, C] - survivors."""
        order = probe_order(codes, self.centroids, self.centroid_units, self.centroid_spreads)
        by_rank = in_cluster.unsqueeze(1).expand_as(order).gather(2, order)
        so_far = torch.cumsum(by_rank, 2)
        budget = self.budget_of(candidates)
        # Clusters are opened until they reach the budget; all of them where they cannot.
        opened = ((so_far < budget[:, None, None]).sum(2) + 1).clamp(max=order.shape[2])
        return opened, so_far.gather(2, opened.unsqueeze(2) - 1).squeeze(2)

    def _scanned(
        self,
        index: IvfIndex,
        filter_: FilterTensors,
        filters: FilterBatch,
        vectors: Tensor,
        opened: Tensor,
        pool: Tensor,
        most_candidates: int,
    ) -> _Pool:
        """The pool of the shard's own items in the opened clusters."""
        t, device = vectors.shape[1], index.codes.device
        # The vectors of a query may open different numbers of clusters, so that each becomes a query of its own.
        each = FilterBatch(*(tensor.repeat_interleave(t, 0) for tensor in filters.tensors()))
        flat, probes = vectors.flatten(0, 1).to(device), opened.flatten().to(device)
        limits = Limits(
            torch.full_like(probes, _ALL),
            probes,
            pool.repeat_interleave(t).to(device),
            rescored=1,
            room=self.room(most_candidates),
        )
        tensors = index.tensors()
        found = search(
            flat.unsqueeze(1), tensors, filter_, each, limits, most_candidates * RESCORED_PER_RESULT
        )
        positions = found.positions[:, 0]
        scores = _scores(quantize(flat).codes, tensors, positions)
        return _Pool(positions, scores, found.similarities[:, 0])

    def plan(self, sampled: int, candidates: int) -> tuple[Plan, float]:
        return plan_of(self._items, sampled, int(self.budget_of(torch.tensor(candidates))))

    def similarities(self, queries: Quantized, positions: Tensor) -> Tensor:
        out: Tensor | None = None
        for shard, index in enumerate(self._shards()):
            device = index.codes.device
            at = local(positions, self._bases, shard)
            copied = Quantized(*(x.to(device) for x in (queries.codes, queries.residuals, queries.scales)))
            own = index.similarities(copied, at.to(device)).to(positions.device)
            out = own if out is None else torch.where((at >= 0).unsqueeze(1), own, out)
        assert out is not None
        return out

    def vectors(self, positions: Tensor) -> Tensor:
        stored = torch.where(positions < 0, self._first, positions)
        out: Tensor | None = None
        for shard, index in enumerate(self._shards()):
            at = local(stored, self._bases, shard)
            if index.codes.shape[0]:
                own = index.vectors(at.to(index.codes.device)).to(positions.device)
                out = own if out is None else torch.where((at >= 0).unsqueeze(-1), own, out)
        assert out is not None
        return out

    def coded(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        stored = torch.where(positions < 0, self._first, positions)
        out: tuple[Tensor, Tensor] | None = None
        for shard, index in enumerate(self._shards()):
            at = local(stored, self._bases, shard)
            if index.codes.shape[0]:
                codes, peaks = (part.to(positions.device) for part in index.coded(at.to(index.codes.device)))
                here = at >= 0
                out = (
                    (codes, peaks)
                    if out is None
                    else (torch.where(here.unsqueeze(-1), codes, out[0]), torch.where(here, peaks, out[1]))
                )
        assert out is not None
        return out

    def _shards(self) -> list[IvfIndex]:
        return [index for index in self.shards if isinstance(index, IvfIndex)]


@dataclass(frozen=True, eq=False)
class _Pool:
    """The pools of query vectors, all [Q, M]: positions in the shard (padded with -1), coarse scores, similarities."""

    positions: Tensor
    scores: Tensor
    similarities: Tensor


def _scores(codes: Tensor, ivf: IvfTensors, positions: Tensor) -> Tensor:
    """[Q, M] float32: coarse scores, arbitrary for position -1. codes: [Q, D] int8. positions: [Q, M] int64."""
    if not ivf.codes.shape[0]:
        return torch.zeros_like(positions, dtype=torch.float32)
    made = []
    for query, at in zip(codes.double(), positions.clamp(min=0), strict=True):
        # Sums of integers below 2^53 are exact in float64 in any order.
        made.append((coarse_values(ivf.codes[at]) @ query).float() * ivf.scales[at])
    return torch.stack(made)
