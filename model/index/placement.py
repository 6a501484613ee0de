"""Which device holds which clusters, and how items are numbered where several do.

Clusters are dealt whole, the largest first, each to the shard that holds the fewest items. A shard's items lie back to
back in the order of clusters, and shards lie one after another, each from a whole bundle of 512 on: an item's place in
that order is its stored position. Position p of the index lies at p plus a shift of its cluster.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from meshfold.kernels.filter.bundles import ITEMS, count
from meshfold.kernels.filter.ragged import ranges
from meshfold.kernels.filter.steps import FilterBatch


@dataclass(frozen=True, eq=False)
class Placement:
    """offsets: [C + 1] int64 - of the whole index. owners: [C] int64 - the shard of each cluster. bases: where each
    shard's stored positions begin, and where the last one's end. shifts: [C] int64."""

    offsets: Tensor
    owners: Tensor
    bases: tuple[int, ...]
    shifts: Tensor

    @classmethod
    def of(cls, offsets: Tensor, shards: int) -> Self:
        sizes = offsets.diff()
        owners = torch.zeros_like(sizes)
        held = [(0, shard) for shard in range(shards)]
        largest_first = torch.argsort(sizes, descending=True, stable=True)
        for cluster, size in zip(largest_first.tolist(), sizes[largest_first].tolist(), strict=True):
            items, shard = heapq.heappop(held)
            owners[cluster] = shard
            heapq.heappush(held, (items + size, shard))
        bases, shifts = [0], torch.zeros_like(sizes)
        for shard in range(shards):
            own = torch.where(owners == shard, sizes, 0)
            shifts = torch.where(
                owners == shard, bases[-1] + torch.cumsum(own, 0) - own - offsets[:-1], shifts
            )
            bases.append(bases[-1] + count(int(own.sum())) * ITEMS)
        return cls(offsets, owners, tuple(bases), shifts)

    @property
    def shards(self) -> int:
        return len(self.bases) - 1

    def sizes(self, shard: int) -> Tensor:
        """[C] int64: items of each cluster that the shard holds, 0 for the clusters of others."""
        return torch.where(self.owners == shard, self.offsets.diff(), 0)

    def positions(self, shard: int) -> Tensor:
        """[n] int64: the items of a shard, in its order."""
        return ranges(self.offsets[:-1], self.sizes(shard))

    def stored(self) -> Tensor:
        """[N] int64: the stored position of each item."""
        sizes = self.offsets.diff()
        n = int(self.offsets[-1])
        return torch.arange(n) + torch.repeat_interleave(self.shifts, sizes, output_size=n)


class Numbering(nn.Module):
    """Positions to stored positions and back, on a device. -1 stays -1."""

    firsts: Tensor
    shifts: Tensor
    stored_firsts: Tensor
    stored_shifts: Tensor

    def __init__(self, placement: Placement) -> None:
        super().__init__()
        # Clusters without items begin where others do.
        some = placement.offsets.diff() > 0
        firsts, shifts = placement.offsets[:-1][some], placement.shifts[some]
        order = torch.argsort(firsts + shifts)
        self.register_buffer("firsts", firsts)
        self.register_buffer("shifts", shifts)
        self.register_buffer("stored_firsts", (firsts + shifts)[order])
        self.register_buffer("stored_shifts", shifts[order])

    def stored(self, positions: Tensor) -> Tensor:
        """positions: [...] int64 -> [...] int64."""
        return torch.where(positions < 0, -1, positions + _of(self.firsts, self.shifts, positions))

    def positions(self, stored: Tensor) -> Tensor:
        """The inverse of `stored`."""
        return torch.where(stored < 0, -1, stored - _of(self.stored_firsts, self.stored_shifts, stored))


def _of(firsts: Tensor, shifts: Tensor, positions: Tensor) -> Tensor:
    """The shift of the cluster that holds each position."""
    place = torch.searchsorted(firsts, positions.contiguous(), right=True) - 1
    return shifts[place.clamp(min=0)]


def local(stored: Tensor, bases: Sequence[int], shard: int) -> Tensor:
    """[...] int64: places in a shard, -1 for items of others. stored: [...] int64."""
    own = (stored >= bases[shard]) & (stored < bases[shard + 1])
    return torch.where(own, stored - bases[shard], -1)


def filters_on(filters: FilterBatch, bases: Sequence[int], shard: int, device: torch.device) -> FilterBatch:
    """The filters for the items of a shard, on its device: exclusions are its own."""
    excluded = local(filters.excluded, bases, shard)
    return FilterBatch(*(x.to(device) for x in (filters.steps, filters.values, filters.value_rows, excluded)))


def sum_of(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """The sum of tensors of several devices, on one."""
    return torch.stack([part.to(device) for part in parts]).sum(0)
