"""The steps of a filter: what the filter's compiler writes and the filter kernels run.

Steps are postfix: a term pushes a set, an operator replaces the sets on top. A step is 4 integers:

    opcode      a           b              c
    NOOP        -           -              -            padding
    CONSTANT    0 or 1      -              -            no item, or every item
    MATCH       field       first value    values       the item has any of the values; signature rows have false
                                                        positives, posting lists, where the field has them, do not
    PLANE       field       first value    values       the same; signature rows are exact
    RANGE       field       first value    -            values[b] <= the item's integer <= values[b + 1]
    EXISTS      field       -              -            the item has the field
    AND, OR     -           -              -            of the two sets on top
    NOT         -           -              -            of the set on top
    AT_LEAST    operands    count          -            items in at least `count` of the sets on top

Values are a table beside the steps: an int64 for the exact columns, and the signature rows that are set for it. Row f
of the signature is set where an item has field f.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.filter.bundles import WORDS, count
from meshfold.kernels.native import structs


class Op(IntEnum):
    NOOP = 0
    CONSTANT = 1
    MATCH = 2
    PLANE = 3
    RANGE = 4
    EXISTS = 5
    AND = 6
    OR = 7
    NOT = 8
    AT_LEAST = 9


STEP = 4


@dataclass(frozen=True, eq=False)
class PostingLists:
    """Positions of the items that have a value, for values so rare that a list is shorter than a signature row.

    fields: [F + 1] int64. values: [L] int64 - those of field f are fields[f] to fields[f + 1], ascending; none where
    the field has no lists. positions: [P] int32 - items of value v are offsets[v] to offsets[v + 1], ascending.
    offsets: [L + 1] int64. A field with lists has one for every value of a MATCH that an item has.
    """

    fields: Tensor
    values: Tensor
    offsets: Tensor
    positions: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.fields, self.values, self.offsets, self.positions


@dataclass(frozen=True, eq=False)
class FilterTensors:
    """Values of N items in F fields, by position.

    signature: [G, R, 8] int64 - row r of bundle g; bits as in kernels/filter/bundles.py, row f is set for items that
    have field f. columns: [N] or [M] int32 or int64 for each field. offsets: [N + 1] int64 for each field of many
    values: item i has columns[f][offsets[f][i] : offsets[f][i + 1]]; [0] for a field of one value: item i has
    columns[f][i], if it has the field. lists: the columns again, for kernels that are faster with them; or None.
    """

    signature: Tensor
    columns: Sequence[Tensor]
    offsets: Sequence[Tensor]
    lists: PostingLists | None = None

    def check(self, items: int) -> None:
        """Raises ValueError unless the tensors have the shapes of N = `items`."""
        expect("signature", self.signature, (count(items), "R", WORDS), torch.int64)
        if not len(self.columns) == len(self.offsets) <= self.signature.shape[1]:
            raise ValueError(
                f"{len(self.columns)} columns need as many offsets and rows of the signature, got"
                f" {len(self.offsets)} and {self.signature.shape[1]}"
            )
        for column, offsets in zip(self.columns, self.offsets, strict=True):
            many = offsets.numel() > 0
            expect("offsets", offsets, (items + 1 if many else 0,), torch.int64)
            kind = torch.int32 if column.dtype == torch.int32 else torch.int64
            expect("columns", column, ("M" if many else items,), kind)
        if (lists := self.lists) is not None:
            expect("lists.fields", lists.fields, (len(self.columns) + 1,), torch.int64)
            expect("lists.values", lists.values, ("L",), torch.int64)
            expect("lists.offsets", lists.offsets, (lists.values.numel() + 1,), torch.int64)
            expect("lists.positions", lists.positions, ("P",), torch.int32)

    def native(self, items: int) -> structs.FilterIndex:
        """The struct of native kernels, checked and made once for each N."""
        made = self._natives.get(items)
        if made is None:
            self.check(items)
            lists = () if self.lists is None else self.lists.tensors()
            made = structs.FilterIndex.of(self.signature, self.columns, self.offsets, lists, items)
            self._natives[items] = made
        return made

    @cached_property
    def _natives(self) -> dict[int, structs.FilterIndex]:
        return {}


@dataclass(frozen=True, eq=False)
class FilterBatch:
    """The filters of B queries, padded. steps: [B, L, 4], values: [B, V], value_rows: [B, V, S] int64 - the rows that
    are set for a value, repeated where it has fewer than S. excluded: [B, E] int64 - positions, -1 for nothing.

    Shapes are checked and addresses are taken once, for all operations of a forward pass."""

    steps: Tensor
    values: Tensor
    value_rows: Tensor
    excluded: Tensor

    @cached_property
    def queries(self) -> int:
        """B. Raises ValueError unless the tensors have the shapes of one batch."""
        b, values = self.steps.shape[0], self.values.shape[-1]
        expect("steps", self.steps, (b, "L", STEP), torch.int64)
        expect("values", self.values, (b, values), torch.int64)
        expect("value_rows", self.value_rows, (b, values, "S"), torch.int64)
        expect("excluded", self.excluded, (b, "E"), torch.int64)
        return b

    @cached_property
    def native(self) -> structs.FilterBatch | None:
        """The struct of native kernels; None for tensors outside the CPU's memory. Raises as `queries` does."""
        _ = self.queries
        # Fake tensors have types of their own.
        plain = all(type(tensor) is Tensor and tensor.is_cpu for tensor in self.tensors())
        return structs.FilterBatch.of(*self.tensors()) if plain else None

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.steps, self.values, self.value_rows, self.excluded

    @classmethod
    def everything(cls, queries: int, device: torch.device | str = "cpu") -> Self:
        """Filters that every item passes."""
        return cls(
            torch.tensor([[[Op.CONSTANT, 1, 0, 0]]], device=device).expand(queries, -1, -1),
            torch.empty((queries, 0), dtype=torch.int64, device=device),
            torch.empty((queries, 0, 1), dtype=torch.int64, device=device),
            torch.empty((queries, 0), dtype=torch.int64, device=device),
        )
