"""Structs of kernels/cpp/native/meshfold.h, field by field.

A struct never keeps ctypes.byref() of itself: the pointer keeps the struct, in a cycle that the garbage collector does
not see. Callers make the pointer for each call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from torch import Tensor

from meshfold.kernels.native.library import contiguous, row_stride


class FilterIndex(ctypes.Structure):
    """struct FilterIndex. sample: the same struct of the sampled items, once a search made it."""

    sample: FilterIndex | None = None

    _fields_ = (
        ("signature", ctypes.c_void_p),
        ("columns", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("widths", ctypes.c_void_p),
        ("list_fields", ctypes.c_void_p),
        ("list_values", ctypes.c_void_p),
        ("list_offsets", ctypes.c_void_p),
        ("postings", ctypes.c_void_p),
        ("fields", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("items", ctypes.c_int64),
        ("lists", ctypes.c_int64),
        ("posting_count", ctypes.c_int64),
    )

    @classmethod
    def of(
        cls,
        signature: Tensor,
        columns: Sequence[Tensor],
        offsets: Sequence[Tensor],
        lists: Sequence[Tensor],
        items: int,
    ) -> FilterIndex:
        """Keeps the tensors. lists: fields, values, offsets and positions, or none."""
        n = len(columns)
        column_addresses = (ctypes.c_void_p * n)(*(contiguous("columns", c).data_ptr() for c in columns))
        offset_addresses = (ctypes.c_void_p * n)(
            *(contiguous("offsets", o).data_ptr() if o.numel() else None for o in offsets)
        )
        widths = (ctypes.c_int32 * n)(*(c.element_size() for c in columns))
        made = cls(
            contiguous("signature", signature).data_ptr(),
            ctypes.addressof(column_addresses),
            ctypes.addressof(offset_addresses),
            ctypes.addressof(widths),
            *((contiguous("lists", tensor).data_ptr() for tensor in lists) if lists else (None,) * 4),
            n,
            signature.shape[1],
            items,
            lists[1].numel() if lists else 0,
            lists[3].numel() if lists else 0,
        )
        # ctypes keeps no reference to what an address came from.
        made.kept = (column_addresses, offset_addresses, widths, signature, *columns, *offsets, *lists)
        return made


class FilterBatch(ctypes.Structure):
    """struct FilterBatch."""

    _fields_ = (
        ("steps", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("value_rows", ctypes.c_void_p),
        ("excluded", ctypes.c_void_p),
        ("queries", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("value_count", ctypes.c_int64),
        ("hashes", ctypes.c_int64),
        ("excluded_count", ctypes.c_int64),
    )

    @classmethod
    def of(cls, steps: Tensor, values: Tensor, value_rows: Tensor, excluded: Tensor) -> FilterBatch:
        """Keeps the tensors, or contiguous copies, which are small."""
        own = tuple(t.contiguous() for t in (steps, values, value_rows, excluded))
        b, length, _ = steps.shape
        _, count, hashes = value_rows.shape
        made = cls(*[t.data_ptr() for t in own], b, length, count, hashes, excluded.shape[1])
        made.kept = own
        return made


class Limits(ctypes.Structure):
    """struct Limits. queries: B."""

    queries: int

    _fields_ = (
        ("budget", ctypes.c_void_p),
        ("probes", ctypes.c_void_p),
        ("candidates", ctypes.c_void_p),
        ("max_results", ctypes.c_void_p),
        ("rescored", ctypes.c_int64),
    )

    @classmethod
    def of(
        cls, budget: Tensor, probes: Tensor, candidates: Tensor, max_results: Tensor, rescored: int
    ) -> Limits:
        """Keeps the tensors, or contiguous copies, which are small."""
        own = tuple(t.contiguous() for t in (budget, probes, candidates, max_results))
        made = cls(*[t.data_ptr() for t in own], rescored)
        made.kept, made.queries = own, candidates.numel()
        return made


class Ivf(ctypes.Structure):
    """struct Ivf. filtered: the filter of the last search: its tensors, the struct of all items and that of the
    sample."""

    filtered: tuple[object, FilterIndex, FilterIndex] | None = None

    _fields_ = (
        ("centroids", ctypes.c_void_p),
        ("centroid_scales", ctypes.c_void_p),
        ("centroid_spreads", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
        ("residuals", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("coarse", ctypes.c_void_p),
        ("clusters", ctypes.c_int64),
        ("items", ctypes.c_int64),
        ("dimension", ctypes.c_int64),
        ("stride", ctypes.c_int64),
    )

    @classmethod
    def of(
        cls,
        centroids: Tensor,
        centroid_scales: Tensor,
        centroid_spreads: Tensor,
        offsets: Tensor,
        codes: Tensor,
        residuals: Tensor,
        scales: Tensor,
        rows: Tensor,
        coarse: Tensor,
    ) -> Ivf:
        """Borrows the tensors: they must outlive the struct."""
        return cls(
            contiguous("centroids", centroids).data_ptr(),
            contiguous("centroid_scales", centroid_scales).data_ptr(),
            contiguous("centroid_spreads", centroid_spreads).data_ptr(),
            contiguous("offsets", offsets).data_ptr(),
            codes.data_ptr(),
            residuals.data_ptr(),
            contiguous("scales", scales).data_ptr(),
            contiguous("rows", rows).data_ptr(),
            contiguous("coarse", coarse).data_ptr(),
            offsets.numel() - 1,
            codes.shape[0],
            codes.shape[1],
            row_stride(codes, residuals),
        )
