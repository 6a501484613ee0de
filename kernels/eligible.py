"""The items that pass each query's filter and are not excluded: signatures narrow, exact columns decide."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.bundles import ITEMS, WORDS, cardinality, count, pack, unpack, without
from meshfold.kernels.expect import expect
from meshfold.kernels.filter_exact import filter_exact
from meshfold.kernels.filter_mask import filter_mask
from meshfold.kernels.filter_program import FilterTensors, Programs
from meshfold.kernels.operation import is_plain, operation


@dataclass(frozen=True, eq=False)
class Eligible:
    """bits: [B, G, 8] int64 - see kernels/bundles.py. counts: [B] int64 - how many items each set holds."""

    bits: Tensor
    counts: Tensor


def eligible(filter_: FilterTensors, programs: Programs, wanted: Tensor, items: int) -> Eligible:
    """The eligible among `items` items. wanted: [B] bool - nothing is asked for the others: no bits, count 0.

    Raises ValueError where a program is not what kernels/filter_program.py describes, or an item is excluded that
    does not exist.
    """
    expect("wanted", wanted, (programs.queries,), torch.bool)
    if native.library() is not None and is_plain(wanted) and programs.native is not None:
        return _eligible_native(filter_, programs, wanted, items)
    check_filter(filter_, items)
    return Eligible(
        *_eligible(
            filter_.signature,
            list(filter_.columns),
            list(filter_.offsets),
            filter_.flat_lists(),
            *programs.tensors(),
            wanted,
            items,
        )
    )


def check_filter(filter_: FilterTensors, items: int) -> None:
    """Raises ValueError where the tensors do not have the shapes of a filter over so many items."""
    expect("signature", filter_.signature, (count(items), "R", WORDS), torch.int64)
    if not len(filter_.columns) == len(filter_.offsets) <= filter_.signature.shape[1]:
        raise ValueError(
            f"{len(filter_.columns)} columns need as many offsets and rows of the signature, got"
            f" {len(filter_.offsets)} and {filter_.signature.shape[1]}"
        )
    for column, offsets in zip(filter_.columns, filter_.offsets, strict=True):
        many = offsets.numel() > 0
        expect("offsets", offsets, (items + 1 if many else 0,), torch.int64)
        kind = torch.int32 if column.dtype == torch.int32 else torch.int64
        expect("columns", column, ("M" if many else items,), kind)
    if (lists := filter_.lists) is not None:
        held = lists.values.numel()
        expect("lists.fields", lists.fields, (len(filter_.columns) + 1,), torch.int64)
        expect("lists.values", lists.values, ("L",), torch.int64)
        expect("lists.offsets", lists.offsets, (held + 1,), torch.int64)
        expect("lists.positions", lists.positions, ("P",), torch.int32)


def eligible_reference(filter_: FilterTensors, programs: Programs, wanted: Tensor, items: int) -> Eligible:
    """The same in plain torch, on any device."""
    signature = filter_.signature
    everything = pack(torch.ones(items, dtype=torch.bool, device=signature.device))
    b = programs.steps.shape[0]
    passed = torch.zeros((b, count(items), WORDS), dtype=torch.int64, device=signature.device)
    for i in torch.nonzero(wanted).flatten().tolist():
        steps, values, excluded = programs.steps[i], programs.values[i], programs.excluded[i]
        if (excluded >= items).any():
            raise ValueError(f"position {int(excluded.max())} is excluded, of {items}")
        bounds = filter_mask(signature, steps.unsqueeze(0), programs.value_rows[i : i + 1])
        sure, maybe = bounds.sure[0] & everything, bounds.maybe[0] & everything
        undecided = torch.nonzero(unpack(maybe & ~sure, items)).squeeze(1)
        exact = filter_exact(signature, filter_.columns, filter_.offsets, steps, values, undecided)
        decided = torch.zeros(count(items) * ITEMS, dtype=torch.bool, device=signature.device)
        decided[undecided[exact]] = True
        passed[i] = without(sure | pack(decided), excluded)
    return Eligible(passed, cardinality(passed))


def _flat(
    run: Callable[[FilterTensors, Programs, Tensor, int], Eligible],
) -> Callable[..., tuple[Tensor, Tensor]]:
    """As torch takes an operation: tensors, lists of them and numbers."""

    def flat(
        signature: Tensor,
        columns: list[Tensor],
        offsets: list[Tensor],
        lists: list[Tensor],
        steps: Tensor,
        values: Tensor,
        value_rows: Tensor,
        excluded: Tensor,
        wanted: Tensor,
        items: int,
    ) -> tuple[Tensor, Tensor]:
        found = run(
            FilterTensors.of(signature, columns, offsets, lists),
            Programs(steps, values, value_rows, excluded),
            wanted,
            items,
        )
        return found.bits, found.counts

    return flat


def _on_cpu(filter_: FilterTensors, programs: Programs, wanted: Tensor, items: int) -> Eligible:
    run = eligible_reference if native.library() is None else _eligible_native
    return run(filter_, programs, wanted, items)


def _on_cuda(filter_: FilterTensors, programs: Programs, wanted: Tensor, items: int) -> Eligible:
    from meshfold.kernels.gpu.eligible import eligible_gpu

    return eligible_gpu(filter_, programs, wanted, items)


_eligible = operation("eligible")(_flat(eligible_reference))
_eligible.register_kernel("cpu")(_flat(_on_cpu))
_eligible.register_kernel("cuda")(_flat(_on_cuda))


@_eligible.register_fake
def _(
    signature: Tensor,
    columns: list[Tensor],
    offsets: list[Tensor],
    lists: list[Tensor],
    steps: Tensor,
    values: Tensor,
    value_rows: Tensor,
    excluded: Tensor,
    wanted: Tensor,
    items: int,
) -> tuple[Tensor, Tensor]:
    b = steps.shape[0]
    return steps.new_empty((b, count(items), WORDS)), steps.new_empty(b)


def _eligible_native(filter_: FilterTensors, programs: Programs, wanted: Tensor, items: int) -> Eligible:
    b = programs.steps.shape[0]
    bits = torch.empty((b, count(items), WORDS), dtype=torch.int64)
    counts = torch.empty(b, dtype=torch.int64)
    asked = wanted.contiguous()
    index = native_filter(filter_, items)
    assert programs.native is not None
    native.call(
        _function(),
        ctypes.byref(index),
        ctypes.byref(programs.native),
        asked.data_ptr(),
        bits.data_ptr(),
        counts.data_ptr(),
        native.threads(),
    )
    return Eligible(bits, counts)


def native_filter(filter_: FilterTensors, items: int) -> native.FilterIndex:
    """The tables as native kernels take them; checked when they are first met."""
    made = filter_.natives.get(items)
    if made is None:
        check_filter(filter_, items)
        made = native.FilterIndex.of(
            filter_.signature, filter_.columns, filter_.offsets, filter_.flat_lists(), items
        )
        filter_.natives[items] = made
    return made


@cache
def _function() -> ctypes._NamedFuncPointer:
    function = native.loaded().meshfold_eligible
    pointer = ctypes.c_void_p
    function.argtypes = [pointer, pointer, pointer, pointer, pointer, ctypes.c_int32]
    return function
