"""The items that pass each query's filter and are not excluded: signatures narrow, exact columns decide."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.filter.bundles import ITEMS, WORDS, cardinality, count, pack, unpack, without
from meshfold.kernels.filter.exact import filter_exact
from meshfold.kernels.filter.mask import filter_mask
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation, is_plain


@dataclass(frozen=True, eq=False)
class Eligible:
    """bits: [B, G, 8] int64 - see kernels/filter/bundles.py. counts: [B] int64 - items in each set."""

    bits: Tensor
    counts: Tensor


def eligible(filter_: FilterTensors, filters: FilterBatch, needed: Tensor, items: int) -> Eligible:
    """The eligible items. needed: [B] bool - the other queries get no bits and count 0. items: N.

    Raises ValueError for steps other than kernels/filter/steps.py describes, or an excluded item that does not exist.
    """
    expect("needed", needed, (filters.queries,), torch.bool)
    if library.is_available() and is_plain(needed) and filters.native is not None:
        return _eligible_native(filter_, filters, needed, items)
    filter_.check(items)
    return _eligible(filter_, filters, needed, items)


def eligible_reference(filter_: FilterTensors, filters: FilterBatch, needed: Tensor, items: int) -> Eligible:
    """Every level gives these bits."""
    signature = filter_.signature
    everything = pack(torch.ones(items, dtype=torch.bool, device=signature.device))
    b = filters.steps.shape[0]
    passed = torch.zeros((b, count(items), WORDS), dtype=torch.int64, device=signature.device)
    for i in torch.nonzero(needed).flatten().tolist():
        steps, values, excluded = filters.steps[i], filters.values[i], filters.excluded[i]
        if (excluded >= items).any():
            raise ValueError(f"position {int(excluded.max())} is excluded, of {items}")
        bounds = filter_mask(signature, steps.unsqueeze(0), filters.value_rows[i : i + 1])
        sure, maybe = bounds.sure[0] & everything, bounds.maybe[0] & everything
        undecided = torch.nonzero(unpack(maybe & ~sure, items)).squeeze(1)
        exact = filter_exact(signature, filter_.columns, filter_.offsets, steps, values, undecided)
        decided = torch.zeros(count(items) * ITEMS, dtype=torch.bool, device=signature.device)
        decided[undecided[exact]] = True
        passed[i] = without(sure | pack(decided), excluded)
    return Eligible(passed, cardinality(passed))


_eligible = Operation("eligible", eligible_reference)
_eligible.register_import("cuda", "meshfold.kernels.gpu.eligible", "eligible_gpu")


@_eligible.register_native
def _eligible_native(filter_: FilterTensors, filters: FilterBatch, needed: Tensor, items: int) -> Eligible:
    out = _empty(filter_, filters, needed, items)
    assert filters.native is not None
    library.call(
        "eligible",
        *(ctypes.byref(filter_.native(items)), ctypes.byref(filters.native), needed.contiguous()),
        *(out.bits, out.counts, library.threads()),
    )
    return out


@_eligible.register_fake
def _empty(filter_: FilterTensors, filters: FilterBatch, needed: Tensor, items: int) -> Eligible:
    b = filters.steps.shape[0]
    return Eligible(filters.steps.new_empty((b, count(items), WORDS)), filters.steps.new_empty(b))
