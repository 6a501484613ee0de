"""The eligibility filter as a module: the signature narrows, the exact columns decide."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from meshfold.kernels.bundles import ITEMS, contains, count, pack, unpack, without
from meshfold.kernels.filter_exact import filter_exact
from meshfold.kernels.filter_mask import filter_mask
from meshfold.kernels.ragged import ranges


class EligibilityFilter(nn.Module):
    """signature: [G, R, 8] int64. columns, offsets: of each filterable field (kernels/filter_exact.py)."""

    _signature: Tensor
    _all: Tensor

    def __init__(
        self, items: int, signature: Tensor, columns: Sequence[Tensor], offsets: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self._items = items
        self._fields = len(columns)
        self.register_buffer("_signature", signature)
        for f, (column, column_offsets) in enumerate(zip(columns, offsets, strict=True)):
            self.register_buffer(f"_column_{f}", column)
            self.register_buffer(f"_offsets_{f}", column_offsets)
        self.register_buffer("_all", pack(torch.ones(items, dtype=torch.bool)), persistent=False)

    def forward(self, steps: Tensor, values: Tensor, value_rows: Tensor, excluded: Tensor) -> Tensor:
        """[B, G, 8] int64: bits of the items that pass each program and are not excluded.

        steps: [B, L, 4], values: [B, V], value_rows: [B, V, S], excluded: [B, E] int64; see model/batch.py.
        """
        bounds = filter_mask(self._signature, steps, value_rows)
        columns = [self.get_buffer(f"_column_{f}") for f in range(self._fields)]
        offsets = [self.get_buffer(f"_offsets_{f}") for f in range(self._fields)]
        eligible = torch.empty_like(bounds.sure)
        for i in range(steps.shape[0]):
            sure, maybe = bounds.sure[i] & self._all, bounds.maybe[i] & self._all
            undecided = torch.nonzero(unpack(maybe & ~sure, self._items)).squeeze(1)
            passed = undecided[
                filter_exact(self._signature, columns, offsets, steps[i], values[i], undecided)
            ]
            decided = torch.zeros(count(self._items) * ITEMS, dtype=torch.bool, device=sure.device)
            decided[passed] = True
            eligible[i] = without(sure | pack(decided), excluded[i])
        return eligible

    def values_at(self, field: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """lengths: [n] int64 and values: [sum(lengths)] int64 of a filterable field.

        positions: [n] int64.
        """
        column = self.get_buffer(f"_column_{field}")
        offsets = self.get_buffer(f"_offsets_{field}")
        if offsets.numel():
            first = offsets[positions]
            lengths = offsets[positions + 1] - first
            return lengths, column[ranges(first, lengths)].long()
        present = contains(self._signature[:, field], positions)
        return present.long(), column[positions[present]].long()
