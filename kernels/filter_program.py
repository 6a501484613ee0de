"""The steps of a filter program: what the filter's compiler writes and the filter kernels run.

A program is postfix: a term pushes a set, an operator replaces the sets on top. A step is 4 integers:

    opcode      a           b              c
    NOOP        -           -              -            padding
    CONSTANT    0 or 1      -              -            no item, or every item
    MATCH       field       first value    values       the item has any of the values; signature rows may lie,
                                                        posting lists, where the field has them, do not
    PLANE       field       first value    values       the same; signature rows are exact
    RANGE       field       first value    -            values[b] <= the item's integer <= values[b + 1]
    EXISTS      field       -              -            the item has the field
    AND, OR     -           -              -            of the two sets on top
    NOT         -           -              -            of the set on top
    AT_LEAST    operands    count          -            items in at least `count` of the sets on top

Values stand in a table beside the steps: an int64 for the exact columns, and the rows of the signature that
are set for it. Row f of the signature is set where an item has field f.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.expect import expect


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
    """Who holds a value, for values so rare that a list of positions is shorter than a row of the signature.

    values: [L] int64 - those of field f stand at fields[f] to fields[f + 1], ascending; none where the field has no
    lists. fields: [F + 1] int64. positions: [P] int32 - of value v's items at offsets[v] to offsets[v + 1], ascending.
    offsets: [L + 1] int64. A field with lists has one for every value of a MATCH that some item holds.
    """

    fields: Tensor
    values: Tensor
    offsets: Tensor
    positions: Tensor


@dataclass(frozen=True, eq=False)
class FilterTensors:
    """What N items hold in F fields, by position.

    signature: [G, R, 8] int64 - row r of bundle g; bits as in kernels/bundles.py, row f tells who has field f.
    columns: [N] or [M] int32 or int64 for each field. offsets: [N + 1] int64 for each field of many values: item i
    has columns[f][offsets[f][i] : offsets[f][i + 1]]; [0] for a field of one value: item i has columns[f][i], if
    it has the field. lists: say again what columns say, for kernels that are faster with them; or None.
    """

    signature: Tensor
    columns: Sequence[Tensor]
    offsets: Sequence[Tensor]
    lists: PostingLists | None = None

    @cached_property
    def natives(self) -> dict[int, native.FilterIndex]:
        """As native kernels take them, by the number of items for which they were checked."""
        return {}

    @classmethod
    def of(
        cls, signature: Tensor, columns: Sequence[Tensor], offsets: Sequence[Tensor], lists: Sequence[Tensor]
    ) -> Self:
        """As operations take them. lists: the four tensors of the posting lists, or none."""
        return cls(signature, columns, offsets, PostingLists(*lists) if lists else None)

    def flat_lists(self) -> list[Tensor]:
        held = self.lists
        return [] if held is None else [held.fields, held.values, held.offsets, held.positions]


@dataclass(frozen=True, eq=False)
class Programs:
    """The filters of B queries, padded. steps: [B, L, 4], values: [B, V], value_rows: [B, V, S] int64 - the rows that
    are set for a value, repeated where it has fewer than S. excluded: [B, E] int64 - positions, -1 for nothing.

    Shapes are checked and addresses are taken once, for all operations of a pass."""

    steps: Tensor
    values: Tensor
    value_rows: Tensor
    excluded: Tensor

    @cached_property
    def queries(self) -> int:
        """B. Raises ValueError where the tensors do not have the shapes of one batch."""
        b, values = self.steps.shape[0], self.values.shape[-1]
        expect("steps", self.steps, (b, "L", STEP), torch.int64)
        expect("values", self.values, (b, values), torch.int64)
        expect("value_rows", self.value_rows, (b, values, "S"), torch.int64)
        expect("excluded", self.excluded, (b, "E"), torch.int64)
        return b

    @cached_property
    def native(self) -> native.Programs | None:
        """As native kernels take them; None where they are not in the CPU's memory. Raises as `queries` does."""
        _ = self.queries
        # Fake tensors are of types of their own.
        plain = all(type(tensor) is Tensor and tensor.is_cpu for tensor in self.tensors())
        return native.Programs.of(*self.tensors()) if plain else None

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As operations take them."""
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
