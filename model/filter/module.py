"""The eligibility filter as a module: the signature rules out items, and exact columns decide about the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import cast

import torch
from torch import Tensor, nn

from meshfold.kernels.filter.bundles import contains
from meshfold.kernels.filter.capped import capped
from meshfold.kernels.filter.eligible import Eligible, eligible
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors, PostingLists


class EligibilityFilter(nn.Module):
    """The filter tensors of a snapshot.

    signature: [G, R, 8] int64. columns, offsets: of each filterable field (kernels/filter/exact.py). keyed: for each
    field, whether its integers are keys of numbers. lists: posting lists, or None.
    """

    _signature: Tensor

    def __init__(
        self,
        items: int,
        signature: Tensor,
        columns: Sequence[Tensor],
        offsets: Sequence[Tensor],
        keyed: Sequence[bool],
        lists: PostingLists | None = None,
    ) -> None:
        super().__init__()
        self.items = items
        self._keyed = tuple(keyed)
        # Cached, because kernels check each new FilterTensors once.
        self._cached: FilterTensors | None = None
        self._columns = tuple(f"_column_{f}" for f in range(len(columns)))
        self._offsets = tuple(f"_offsets_{f}" for f in range(len(offsets)))
        self.register_buffer("_signature", signature)
        self._lists = () if lists is None else tuple(f"_list_{f.name}" for f in fields(lists))
        if lists is not None:
            for field in fields(lists):
                self.register_buffer(f"_list_{field.name}", getattr(lists, field.name))
        for name, tensor in zip((*self._columns, *self._offsets), (*columns, *offsets), strict=True):
            self.register_buffer(name, tensor)

    def forward(self, filters: FilterBatch, needed: Tensor) -> Eligible:
        """The items that pass each filter and are not excluded. needed: [B] bool - other queries get no items."""
        return eligible(self.tensors(), filters, needed, self.items)

    def tensors(self) -> FilterTensors:
        """The filter tensors, for operations that filter while they search."""
        tensors = self._cached
        if tensors is None or tensors.signature is not self._signature:
            buffers = cast(Mapping[str, Tensor], self._buffers)
            columns, offsets, lists = (
                [buffers[name] for name in names] for names in (self._columns, self._offsets, self._lists)
            )
            tensors = FilterTensors(
                self._signature, columns, offsets, PostingLists(*lists) if lists else None
            )
            # Traced tensors must not be kept.
            if not torch.compiler.is_compiling():
                self._cached = tensors
        return tensors

    def drop_lists(self) -> None:
        """Drops the posting lists, for kernels that do not read them. The columns have the same data."""
        for name in self._lists:
            del self._buffers[name]
        self._lists, self._cached = (), None

    def parts(self) -> list[FilterTensors]:
        """The filter tensors of each shard; one shard here."""
        return [self.tensors()]

    @property
    def device(self) -> torch.device:
        return self._signature.device

    def stays(self, positions: Tensor, fields: Tensor, limits: Tensor) -> Tensor:
        """[B, K] bool: whether each of the ordered results is within its query's cap (kernels/filter/capped.py)."""
        return capped(self.tensors(), positions, fields, limits, self.items)

    def numbers_at(self, fields: Sequence[int], positions: Tensor) -> tuple[Tensor, Tensor]:
        """(numbers: [B, F, K] float64 - 0 where missing, present: [B, F, K] bool) of fields of one number.

        fields: places of the fields. positions: [B, K] int64, padded with -1.
        """
        b, k = positions.shape
        numbers = torch.zeros((b, len(fields), k), dtype=torch.float64, device=positions.device)
        present = torch.zeros((b, len(fields), k), dtype=torch.bool, device=positions.device)
        if not fields:
            return numbers, present
        at = positions.clamp(min=0)
        for i, f in enumerate(fields):
            values = self.get_buffer(self._columns[f])[at]
            present[:, i] = contains(self._signature[:, f], at) & (positions >= 0)
            # The inverse of the order-preserving key of model/data/catalog.py.
            number = (
                (values ^ ((values >> 63) & (2**63 - 1))).view(torch.float64)
                if self._keyed[f]
                else values.double()
            )
            numbers[:, i] = torch.where(present[:, i], number, 0.0)
        return numbers, present
