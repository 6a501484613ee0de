"""The eligibility filter with its items on several devices: each shard filters its own items."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from meshfold.kernels.filter.bundles import WORDS
from meshfold.kernels.filter.cap_per_value import cap_per_value
from meshfold.kernels.filter.columns import values_at
from meshfold.kernels.filter.eligible import Eligible
from meshfold.kernels.filter.ragged import ranges
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors
from meshfold.model.filter.module import EligibilityFilter
from meshfold.model.index.placement import filters_on, local, sum_of


class ShardedFilter(EligibilityFilter):
    """A filter over several shards. Positions are stored positions (model/index/placement.py).

    shards: their filters. bases: first stored position of each shard. The module has no items of its own.
    """

    def __init__(self, shards: Sequence[EligibilityFilter], bases: Sequence[int]) -> None:
        nothing = torch.empty((0, 0, WORDS), dtype=torch.int64)
        super().__init__(bases[-1], nothing, [], [], [])
        self.shards = nn.ModuleList(shards)
        self._bases = tuple(bases)

    def forward(self, filters: FilterBatch, needed: Tensor) -> Eligible:
        """The concatenated bitmaps of all shards, and their total counts, on the device of `needed`."""
        device = needed.device
        found = []
        for shard, filter_ in enumerate(self._filters()):
            own = filters_on(filters, self._bases, shard, filter_.device)
            found.append(filter_(own, needed.to(filter_.device)))
        # Every shard begins at a bundle, so that bitmaps can be concatenated.
        bits = torch.cat([part.bits.to(device) for part in found], 1)
        return Eligible(bits, sum_of([part.counts for part in found], device))

    def parts(self) -> list[FilterTensors]:
        return [filter_.tensors() for filter_ in self._filters()]

    def stays(self, positions: Tensor, fields: Tensor, limits: Tensor) -> Tensor:
        stays = positions >= 0
        for b, (field, limit) in enumerate(zip(fields.tolist(), limits.tolist(), strict=True)):
            if field >= 0:
                real = stays[b].clone()
                stays[b, real] = cap_per_value(*self._values_at(field, positions[b][real]), limit)
        return stays

    def numbers_at(self, fields: Sequence[int], positions: Tensor) -> tuple[Tensor, Tensor]:
        b, k = positions.shape
        numbers = torch.zeros((b, len(fields), k), dtype=torch.float64, device=positions.device)
        present = torch.zeros((b, len(fields), k), dtype=torch.bool, device=positions.device)
        for shard, filter_ in enumerate(self._filters()):
            at = local(positions, self._bases, shard).to(filter_.device)
            if fields and filter_.items:
                own, there = (x.to(positions.device) for x in filter_.numbers_at(fields, at))
                numbers, present = torch.where(there, own, numbers), present | there
        return numbers, present

    def _values_at(self, field: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        lengths = torch.zeros_like(positions)
        found = []
        for shard, filter_ in enumerate(self._filters()):
            at = local(positions, self._bases, shard)
            own = torch.nonzero(at >= 0).squeeze(1)
            tensors = filter_.tensors()
            of_shard, values = values_at(
                *(tensors.signature, tensors.columns[field], tensors.offsets[field]),
                *(field, at[own].to(filter_.device)),
            )
            lengths[own] = of_shard.to(lengths.device)
            found.append((own, values.to(lengths.device)))
        starts = torch.cumsum(lengths, 0) - lengths
        out = torch.empty(int(lengths.sum()), dtype=torch.int64, device=positions.device)
        for own, values in found:
            out[ranges(starts[own], lengths[own])] = values
        return lengths, out

    def _filters(self) -> list[EligibilityFilter]:
        return [filter_ for filter_ in self.shards if isinstance(filter_, EligibilityFilter)]
