"""A snapshot with its items spread over several devices of one host.

Each shard has the codes, residuals, columns and signature of its own items. User tower, OverArch and formulas run on
the first device, which gathers the candidates. Answers are the same as on one device, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn

from meshfold.kernels.filter.bundles import gathered
from meshfold.kernels.filter.ragged import ranges
from meshfold.kernels.filter.steps import FilterBatch
from meshfold.kernels.vectors.quantize import Quantized
from meshfold.model.batch import Nearest, QueryBatch, Results, ScoreBatch, SearchBatch, UserBatch
from meshfold.model.filter.module import EligibilityFilter
from meshfold.model.filter.sharded import ShardedFilter
from meshfold.model.index.ivf import IvfIndex, Plan
from meshfold.model.index.placement import Numbering, Placement
from meshfold.model.index.sharded import ShardedIndex
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.schema import FieldKind
from meshfold.model.snapshot import Snapshot

_ROWS_AT_A_TIME = 1 << 20


class ShardedModel(nn.Module):
    """A RetrievalModel over several devices. Arguments and results have positions of the snapshot; internally positions
    are stored ones (index/placement.py), which include the shard."""

    def __init__(self, inner: RetrievalModel, numbering: Numbering) -> None:
        super().__init__()
        self.inner = inner
        self._numbering = numbering

    @classmethod
    def of(cls, snapshot: Snapshot, devices: Sequence[torch.device]) -> Self:
        """Copies each shard to its device, chunk by chunk. Raises SnapshotRefused where a program cannot be run."""
        index, items, first = snapshot.index, snapshot.items, devices[0]
        whole = RetrievalModel.of(snapshot)
        placement = Placement.of(index["offsets"], len(devices))
        stored = placement.stored()

        def spread(values: Tensor) -> Tensor:
            """Values by stored position; gaps between shards are 0 and never read."""
            out = torch.zeros(placement.bases[-1], dtype=values.dtype)
            out[stored] = values
            return out.to(first)

        shards = [_shard(snapshot, placement, shard, device) for shard, device in enumerate(devices)]
        inner = whole.over(
            ShardedFilter([filter_ for _, filter_ in shards], placement.bases),
            ShardedIndex(
                [own for own, _ in shards], placement, spread(index["rows"]), snapshot.content.scan_budget
            ),
            stored[items["popular"].long()].int().to(first),
            spread(items["popularity"]),
        )
        inner.user.to(first)
        inner.ranking.to(first)
        return cls(inner, Numbering(placement).to(first))

    def forward(self, batch: QueryBatch) -> Results:
        results: Results = self.inner(
            replace(batch, users=self._users(batch.users), filters=self._filters(batch.filters))
        )
        return replace(results, positions=self._numbering.positions(results.positions))

    def embed(self, users: UserBatch) -> tuple[Tensor, Tensor]:
        return self.inner.embed(self._users(users))

    def search(self, batch: SearchBatch) -> Nearest:
        nearest = self.inner.search(replace(batch, filters=self._filters(batch.filters)))
        return replace(nearest, positions=self._numbering.positions(nearest.positions))

    def score(self, batch: ScoreBatch) -> tuple[Tensor, Tensor]:
        positions = self._numbering.stored(batch.positions)
        return self.inner.score(replace(batch, users=self._users(batch.users), positions=positions))

    def plan(self, sampled: int, candidates: int) -> tuple[Plan, float]:
        return self.inner.plan(sampled, candidates)

    def _users(self, users: UserBatch) -> UserBatch:
        return replace(users, history_positions=self._numbering.stored(users.history_positions))

    def _filters(self, filters: FilterBatch) -> FilterBatch:
        return replace(filters, excluded=self._numbering.stored(filters.excluded))


def _shard(
    snapshot: Snapshot, placement: Placement, shard: int, device: torch.device
) -> tuple[IvfIndex, EligibilityFilter]:
    """The index and the filter of a shard's items, on its device."""
    index, positions, sizes = snapshot.index, placement.positions(shard), placement.sizes(shard)
    offsets = torch.nn.functional.pad(torch.cumsum(sizes, 0), (1, 0))
    own = IvfIndex(
        Quantized(*(_rows_of(index[name], positions, device) for name in ("codes", "residuals", "units"))),
        _rows_of(index["rows"], positions, device),
        index["centroids"].to(device),
        index["centroid_units"].to(device),
        index["centroid_spreads"].to(device),
        offsets.to(device),
        snapshot.content.scan_budget,
    )
    columns, column_offsets = [], []
    for column, starts in zip(*snapshot.columns(), strict=True):
        if starts.numel():
            lengths = starts.diff()[positions]
            columns.append(_rows_of(column, ranges(starts[positions], lengths), device))
            column_offsets.append(torch.nn.functional.pad(torch.cumsum(lengths, 0), (1, 0)).to(device))
        else:
            columns.append(_rows_of(column, positions, device))
            column_offsets.append(starts.to(device))
    filter_ = EligibilityFilter(
        positions.numel(),
        gathered(snapshot.filter["signature"], placement.offsets[:-1], sizes).to(device),
        columns,
        column_offsets,
        [f.kind is FieldKind.NUMBER for f in snapshot.schema.filterable],
    )
    return own, filter_


def _rows_of(table: Tensor, places: Tensor, device: torch.device) -> Tensor:
    """table[places] on a device, copied in parts to limit host memory."""
    out = torch.empty((places.numel(), *table.shape[1:]), dtype=table.dtype, device=device)
    for start in range(0, places.numel(), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        out[part] = table[places[part]].to(device)
    return out
