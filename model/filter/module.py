"""The eligibility filter as a module: the signature narrows, the exact columns decide."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from meshfold.kernels.bundles import contains
from meshfold.kernels.capped import capped
from meshfold.kernels.columns import values_at
from meshfold.kernels.eligible import eligible


class EligibilityFilter(nn.Module):
    """signature: [G, R, 8] int64. columns, offsets: of each filterable field (kernels/filter_exact.py).
    keyed: whether a field's integers are keys of numbers."""

    _signature: Tensor

    def __init__(
        self,
        items: int,
        signature: Tensor,
        columns: Sequence[Tensor],
        offsets: Sequence[Tensor],
        keyed: Sequence[bool],
    ) -> None:
        super().__init__()
        self._items = items
        self._keyed = tuple(keyed)
        self.register_buffer("_signature", signature)
        for f, (column, column_offsets) in enumerate(zip(columns, offsets, strict=True)):
            self.register_buffer(f"_column_{f}", column)
            self.register_buffer(f"_offsets_{f}", column_offsets)

    def forward(self, steps: Tensor, values: Tensor, value_rows: Tensor, excluded: Tensor) -> Tensor:
        """[B, G, 8] int64: bits of the items that pass each program and are not excluded.

        steps: [B, L, 4], values: [B, V], value_rows: [B, V, S], excluded: [B, E] int64; see model/batch.py.
        """
        columns, offsets = self._columns()
        passed: Tensor = eligible(
            self._signature, columns, offsets, steps, values, value_rows, excluded, self._items
        )
        return passed

    def stays(self, positions: Tensor, fields: Tensor, limits: Tensor) -> Tensor:
        """[B, K] bool: which of ordered results stay under each query's cap; see kernels/capped.py."""
        columns, offsets = self._columns()
        stays: Tensor = capped(self._signature, columns, offsets, positions, fields, limits)
        return stays

    def numbers_at(self, fields: Sequence[int], positions: Tensor) -> tuple[Tensor, Tensor]:
        """(numbers: [B, F, K] float64 - 0 where missing, present: [B, F, K] bool) of fields of one number.

        positions: [B, K] int64, -1 for nothing.
        """
        b, k = positions.shape
        numbers = torch.zeros((b, len(fields), k), dtype=torch.float64, device=positions.device)
        present = torch.zeros((b, len(fields), k), dtype=torch.bool, device=positions.device)
        at = positions.clamp(min=0)
        for i, f in enumerate(fields):
            held = self.get_buffer(f"_column_{f}")[at]
            present[:, i] = contains(self._signature[:, f], at) & (positions >= 0)
            # The inverse of the order-preserving key of model/data/catalog.py.
            number = (
                (held ^ ((held >> 63) & (2**63 - 1))).view(torch.float64) if self._keyed[f] else held.double()
            )
            numbers[:, i] = torch.where(present[:, i], number, 0.0)
        return numbers, present

    def values_at(self, field: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """lengths: [n] int64 and values: [sum(lengths)] int64 of a filterable field. positions: [n] int64."""
        column, offsets = self.get_buffer(f"_column_{field}"), self.get_buffer(f"_offsets_{field}")
        return values_at(self._signature, column, offsets, field, positions)

    def _columns(self) -> tuple[list[Tensor], list[Tensor]]:
        places = range(len(self._keyed))
        return (
            [self.get_buffer(f"_column_{f}") for f in places],
            [self.get_buffer(f"_offsets_{f}") for f in places],
        )
