"""The index with its items on several devices: clusters are opened by the survivors of all shards, as on one device.

1  each shard filters its own items and counts the survivors of its clusters
2  the first device adds the counts and opens clusters, by the one rule of kernels/search.py
3  each shard scans those of the opened clusters that it holds, and compares its pool from 16 bits
4  the first device keeps the pool of all, by coarse score and row, and of it the best, by similarity and row

So that clusters opened, items scored and candidates are those of the whole index, whatever the number of shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meshfold.kernels.bundles import contains, held_in
from meshfold.kernels.coarse import coarse_values
from meshfold.kernels.eligible import eligible
from meshfold.kernels.filter_program import FilterTensors, Programs
from meshfold.kernels.ordered import NOTHING, best, keys
from meshfold.kernels.probe import probe_order
from meshfold.kernels.quantize import Quantized, quantize
from meshfold.kernels.sample import sample_positions
from meshfold.kernels.search import search
from meshfold.kernels.search_tensors import Found, IvfTensors, Limits
from meshfold.model.index.ivf import RESCORED_PER_RESULT, IvfIndex, Plan, plan_of
from meshfold.model.index.placement import Placement, local, programs_on, sum_of

_ALL = 2**62


class ShardedIndex(IvfIndex):
    """Positions are stored ones (placement.py). shards: with all centroids, their own items, and clusters of size 0 for
    those of others. rows: [stored] int32. It holds no item itself; what is central lies where rows do."""

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
        # What a position of -1 stands for on one device.
        self._first = int(stored[0])
        self._bases = placement.bases

    def search_parts(
        self,
        vectors: Tensor,
        parts: Sequence[FilterTensors],
        programs: Programs,
        depth: Tensor,
        k: int,
        wanted: Tensor | None = None,
    ) -> Found:
        device, shards = self.rows.device, self._shards()
        b, t, _ = vectors.shape
        codes = self.quantize(vectors).codes
        owned = [
            programs_on(programs, self._bases, shard, index.codes.device)
            for shard, index in enumerate(shards)
        ]
        # What a shard does not wait for, the others do meanwhile.
        counted = [
            self._counted(index, filter_, shard, program)
            for shard, (index, filter_, program) in enumerate(zip(shards, parts, owned, strict=True))
        ]
        held = sum_of([held for held, _ in counted], device)
        opened, scored = self._opened(codes, held, depth)
        surely = depth if wanted is None else torch.minimum(wanted, depth)
        pool = torch.maximum(depth, surely * RESCORED_PER_RESULT)
        pools = [
            self._scanned(index, filter_, program, vectors, opened, pool, k)
            for index, filter_, program in zip(shards, parts, owned, strict=True)
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
            positions, scores, similarities, pool.repeat_interleave(t), k * RESCORED_PER_RESULT
        )
        positions, similarities = self._best(
            positions, similarities, similarities, depth.repeat_interleave(t), k
        )
        return Found(
            positions.view(b, t, k),
            similarities.view(b, t, k),
            opened,
            scored,
            sum_of([s for _, s in counted], device),
        )

    def _best(
        self, positions: Tensor, scores: Tensor, similarities: Tensor, wanted: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        """(positions, similarities), both [Q, k]: the best by score, ties to the smaller row; -1 and 0 beyond.

        positions, scores, similarities: [Q, M] - positions -1 for nothing. wanted: [Q] int64, at most k.
        """
        rows = self.rows[positions.clamp(min=0)].long()
        held_keys, places = best(torch.where(positions >= 0, keys(scores, rows), NOTHING), k)
        kept = held_keys > NOTHING
        kept &= torch.arange(kept.shape[1], device=kept.device) < wanted[:, None]
        return (
            torch.where(kept, positions.gather(1, places), -1),
            torch.where(kept, similarities.gather(1, places), 0.0),
        )

    def _counted(
        self, index: IvfIndex, filter_: FilterTensors, shard: int, programs: Programs
    ) -> tuple[Tensor, Tensor]:
        """(survivors of each cluster that the shard holds: [B, C], how many of the sample pass: [B])."""
        b, device = programs.steps.shape[0], index.codes.device
        everyone = torch.ones(b, dtype=torch.bool, device=device)
        bits = eligible(filter_, programs, everyone, index.codes.shape[0]).bits
        sample = self.get_buffer(f"_sample_{shard}")
        sampled = [contains(of_query, sample).sum() for of_query in bits]
        return held_in(bits, index.offsets), torch.stack(sampled)

    def _opened(self, codes: Tensor, held: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """(clusters opened, survivors in them), both [B, T] int64. held: [B, C]."""
        order = probe_order(codes, self.centroids, self.centroid_units, self.centroid_spreads)
        by_rank = held.unsqueeze(1).expand_as(order).gather(2, order)
        so_far = torch.cumsum(by_rank, 2)
        budget = self.budget_of(depth)
        # One more cluster than those that leave the budget unmet; all of them where it cannot be met.
        opened = ((so_far < budget[:, None, None]).sum(2) + 1).clamp(max=order.shape[2])
        return opened, so_far.gather(2, opened.unsqueeze(2) - 1).squeeze(2)

    def _scanned(
        self,
        index: IvfIndex,
        filter_: FilterTensors,
        programs: Programs,
        vectors: Tensor,
        opened: Tensor,
        pool: Tensor,
        k: int,
    ) -> _Pool:
        """What the shard would compare of its items in the opened clusters if there were no others."""
        t, device = vectors.shape[1], index.codes.device
        # Vectors of a query may open different numbers of clusters, so that each is a query of its own.
        each = Programs(*(tensor.repeat_interleave(t, 0) for tensor in programs.tensors()))
        asked, probes = vectors.flatten(0, 1).to(device), opened.flatten().to(device)
        limits = Limits(
            torch.full_like(probes, _ALL),
            probes,
            pool.repeat_interleave(t).to(device),
            rescored=1,
            room=self.room(k),
        )
        tensors = index.tensors()
        found = search(asked.unsqueeze(1), tensors, filter_, each, limits, k * RESCORED_PER_RESULT)
        positions = found.positions[:, 0]
        scores = _scores(quantize(asked).codes, tensors, positions)
        return _Pool(positions, scores, found.similarities[:, 0])

    def plan(self, sampled: int, depth: int) -> tuple[Plan, float]:
        return plan_of(self._items, sampled, int(self.budget_of(torch.tensor(depth))))

    def similarities(self, queries: Quantized, positions: Tensor) -> Tensor:
        out: Tensor | None = None
        for shard, index in enumerate(self._shards()):
            device = index.codes.device
            at = local(positions, self._bases, shard)
            asked = Quantized(*(x.to(device) for x in (queries.codes, queries.residuals, queries.units)))
            own = index.similarities(asked, at.to(device)).to(positions.device)
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
    """Of each query vector, all [Q, M]: positions in the shard, -1 for nothing, coarse scores and similarities."""

    positions: Tensor
    scores: Tensor
    similarities: Tensor


def _scores(codes: Tensor, ivf: IvfTensors, positions: Tensor) -> Tensor:
    """[Q, M] float32: coarse scores; anything for -1. codes: [Q, D] int8. positions: [Q, M] int64."""
    if not ivf.codes.shape[0]:
        return torch.zeros_like(positions, dtype=torch.float32)
    made = []
    for query, at in zip(codes.double(), positions.clamp(min=0), strict=True):
        # Sums of integers below 2^53 are exact in float64, in whatever order they are added.
        made.append((coarse_values(ivf.codes[at]) @ query).float() * ivf.units[at])
    return torch.stack(made)
