"""Placement of clusters on several devices, and the stored positions of items.

Each cluster goes to one shard: in order of size, largest first, to the shard with the fewest items. Stored positions
number the items of all shards: a shard's items are back to back in the order of clusters, and each shard begins at a
whole bundle of 512. The stored position of an item is its position in the index plus its cluster's shift.
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
    """The placement of an index. offsets: [C + 1] int64 - of the whole index. owners: [C] int64 - shards of clusters.

    bases: the first stored position of each shard, and the end of the last. shifts: [C] int64.
    """

    offsets: Tensor
    owners: Tensor
    bases: tuple[int, ...]
    shifts: Tensor

    @classmethod
    def of(cls, offsets: Tensor, shards: int) -> Self:
        sizes = offsets.diff()
        owners = torch.zeros_like(sizes)
        loads = [(0, shard) for shard in range(shards)]
        largest_first = torch.argsort(sizes, descending=True, stable=True)
        for cluster, size in zip(largest_first.tolist(), sizes[largest_first].tolist(), strict=True):
            items, shard = heapq.heappop(loads)
            owners[cluster] = shard
            heapq.heappush(loads, (items + size, shard))
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
        """[C] int64: number of items of each cluster in the shard, 0 for clusters of other shards."""
        return torch.where(self.owners == shard, self.offsets.diff(), 0)

    def positions(self, shard: int) -> Tensor:
        """[n] int64: positions of a shard's items, in its order."""
        return ranges(self.offsets[:-1], self.sizes(shard))

    def stored(self) -> Tensor:
        """[N] int64: the stored position of each item."""
        sizes = self.offsets.diff()
        n = int(self.offsets[-1])
        return torch.arange(n) + torch.repeat_interleave(self.shifts, sizes, output_size=n)


class Numbering(nn.Module):
    """Conversion between positions and stored positions on a device. -1 stays -1."""

    firsts: Tensor
    shifts: Tensor
    stored_firsts: Tensor
    stored_shifts: Tensor

    def __init__(self, placement: Placement) -> None:
        super().__init__()
        # Empty clusters are left out, because their first position is another cluster's.
        some = placement.offsets.diff() > 0
        firsts, shifts = placement.offsets[:-1][some], placement.shifts[some]
        order = torch.argsort(firsts + shifts)
        self.register_buffer("firsts", firsts)
        self.register_buffer("shifts", shifts)
        self.register_buffer("stored_firsts", (firsts + shifts)[order])
        self.register_buffer("stored_shifts", shifts[order])

    def stored(self, positions: Tensor) -> Tensor:
        """[...] int64 - stored positions. positions: [...] int64."""
        return torch.where(positions < 0, -1, positions + _of(self.firsts, self.shifts, positions))

    def positions(self, stored: Tensor) -> Tensor:
        """The inverse of `stored`."""
        return torch.where(stored < 0, -1, stored - _of(self.stored_firsts, self.stored_shifts, stored))


def _of(firsts: Tensor, shifts: Tensor, positions: Tensor) -> Tensor:
    """The shift of each position's cluster."""
    place = torch.searchsorted(firsts, positions.contiguous(), right=True) - 1
    return shifts[place.clamp(min=0)]


def local(stored: Tensor, bases: Sequence[int], shard: int) -> Tensor:
    """[...] int64: positions in a shard, -1 for items of other shards. stored: [...] int64."""
    own = (stored >= bases[shard]) & (stored < bases[shard + 1])
    return torch.where(own, stored - bases[shard], -1)


def filters_on(filters: FilterBatch, bases: Sequence[int], shard: int, device: torch.device) -> FilterBatch:
    """The filters for a shard on its device, with excluded items as positions in the shard."""
    excluded = local(filters.excluded, bases, shard)
    return FilterBatch(*(x.to(device) for x in (filters.steps, filters.values, filters.value_rows, excluded)))


def sum_of(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """The sum of tensors from several devices, on one device."""
    return torch.stack([part.to(device) for part in parts]).sum(0)
