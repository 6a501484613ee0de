"""The native CPU kernels: found, loaded once, and called with tensors.

Sources are in kernels/cpp, behind a C interface; they are built when the package is installed. Where they are
not, every operation runs its reference, with the same answers, and one warning tells the remedy.

MESHFOLD_KERNELS forces a lower level: avx512, avx2, plain, or reference for none. Threads are torch's: the
library uses the OpenMP runtime that torch has loaded.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

# Of the structs and functions that this file mirrors; kernels/cpp/meshfold.h.
_ABI = 14
_LEVELS = ("plain", "avx2", "avx512")
_REFERENCE = "reference"
_FORCED = "MESHFOLD_KERNELS"
_FINE, _INVALID, _OUT_OF_MEMORY = 0, 1, 2
# Tests run a library that was built another way.
_BUILT = "MESHFOLD_KERNELS_LIBRARY"

_forced_reference = False


def library() -> ctypes.CDLL | None:
    """The loaded kernels; None where operations run their references."""
    return None if _forced_reference else _load()


def loaded() -> ctypes.CDLL:
    """The kernels, for those who know that they are there."""
    native = _load()
    if native is None:
        raise RuntimeError("the native kernels are not loaded")
    return native


def level() -> str:
    """What runs: reference, plain, avx2 or avx512."""
    native = library()
    return _REFERENCE if native is None else _LEVELS[native.meshfold_isa(-1)]


def levels() -> list[str]:
    """Every level that can run here, slowest first."""
    native = _load()
    if native is None:
        return [_REFERENCE]
    before = native.meshfold_isa(-1)
    most = native.meshfold_isa(len(_LEVELS) - 1)
    native.meshfold_isa(before)
    return [_REFERENCE, *_LEVELS[: most + 1]]


@contextmanager
def forced(name: str) -> Iterator[None]:
    """Runs what is inside at one of levels(), for the whole process: for tests and benchmarks."""
    global _forced_reference
    if name not in levels():
        raise ValueError(f"kernels run at {', '.join(levels())} here, not at {name!r}")
    was, native = _forced_reference, _load()
    before = -1 if native is None else native.meshfold_isa(-1)
    try:
        _forced_reference = name == _REFERENCE
        if native is not None and not _forced_reference:
            native.meshfold_isa(_LEVELS.index(name))
        yield
    finally:
        _forced_reference = was
        if native is not None:
            native.meshfold_isa(before)


def call(function: ctypes._NamedFuncPointer, *arguments: object) -> None:
    """Calls an entry point. Raises ValueError where it refuses its arguments, MemoryError, RuntimeError."""
    code = function(*arguments)
    if code != _FINE:
        raise refusal(code)


def refusal(code: int) -> Exception:
    """What an entry point that returned something else than 0 means."""
    native = _load()
    message = "" if native is None else native.meshfold_message().decode("utf-8", "replace")
    return {_INVALID: ValueError, _OUT_OF_MEMORY: MemoryError}.get(code, RuntimeError)(message)


def contiguous(name: str, tensor: Tensor) -> Tensor:
    """The tensor itself. Raises ValueError where a copy would be needed: of an index, that would be all of it."""
    if not tensor.is_cpu:
        raise ValueError(f"{name} must be on the CPU, as the queries are, got {tensor.device}")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous; call .contiguous() once, where it is made")
    return tensor


def row_stride(codes: Tensor, residuals: Tensor) -> int:
    """Bytes from an item to the next, in codes as in residuals; both [N, D] int8.

    Raises ValueError where an item's values have gaps between them or the two lie otherwise.
    """
    n, d = codes.shape
    for name, table in (("codes", codes), ("residuals", residuals)):
        if not table.is_cpu:
            raise ValueError(f"{name} must be on the CPU, as the queries are, got {table.device}")
        if n > 0 and d > 1 and table.stride(1) != 1:
            raise ValueError(f"{name} must be contiguous; call .contiguous() once, where it is made")
    if n < 2:
        return d
    if codes.stride(0) != residuals.stride(0):
        raise ValueError(
            f"codes and residuals must lie alike, got rows {codes.stride(0)} and {residuals.stride(0)} bytes apart"
        )
    return codes.stride(0)


# A struct never keeps ctypes.byref() of itself: the pointer keeps the struct, and the garbage collector does not see
# that. Callers make the pointer for each call.


class FilterIndex(ctypes.Structure):
    """struct FilterIndex of kernels/cpp/meshfold.h. sample: the same of the sampled items, once a search made it."""

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
        held_columns = (ctypes.c_void_p * n)(*(contiguous("columns", c).data_ptr() for c in columns))
        held_offsets = (ctypes.c_void_p * n)(
            *(contiguous("offsets", o).data_ptr() if o.numel() else None for o in offsets)
        )
        widths = (ctypes.c_int32 * n)(*(c.element_size() for c in columns))
        made = cls(
            contiguous("signature", signature).data_ptr(),
            ctypes.addressof(held_columns),
            ctypes.addressof(held_offsets),
            ctypes.addressof(widths),
            *((contiguous("lists", tensor).data_ptr() for tensor in lists) if lists else (None,) * 4),
            n,
            signature.shape[1],
            items,
            lists[1].numel() if lists else 0,
            lists[3].numel() if lists else 0,
        )
        # ctypes keeps no reference to what an address came from.
        made.kept = (held_columns, held_offsets, widths, signature, *columns, *offsets, *lists)
        return made


class Programs(ctypes.Structure):
    """struct Programs of kernels/cpp/meshfold.h."""

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
    def of(cls, steps: Tensor, values: Tensor, value_rows: Tensor, excluded: Tensor) -> Programs:
        """Keeps the tensors, or makes contiguous copies, which are small."""
        held = steps.contiguous(), values.contiguous(), value_rows.contiguous(), excluded.contiguous()
        b, length, _ = steps.shape
        _, count, hashes = value_rows.shape
        made = cls(*[t.data_ptr() for t in held], b, length, count, hashes, excluded.shape[1])
        made.kept = held
        return made


class Limits(ctypes.Structure):
    """struct Limits of kernels/cpp/meshfold.h. queries: how many have limits."""

    queries: int

    _fields_ = (
        ("budget", ctypes.c_void_p),
        ("probes", ctypes.c_void_p),
        ("depth", ctypes.c_void_p),
        ("wanted", ctypes.c_void_p),
        ("rescored", ctypes.c_int64),
    )

    @classmethod
    def of(cls, budget: Tensor, probes: Tensor, depth: Tensor, wanted: Tensor, rescored: int) -> Limits:
        """Keeps the tensors, or makes contiguous copies, which are small."""
        held = budget.contiguous(), probes.contiguous(), depth.contiguous(), wanted.contiguous()
        made = cls(*[t.data_ptr() for t in held], rescored)
        made.kept, made.queries = held, depth.numel()
        return made


class Ivf(ctypes.Structure):
    """struct Ivf of kernels/cpp/meshfold.h. filtered: the last filter that it was searched with: its tensors, and the
    structs of all items and of the sampled ones."""

    filtered: tuple[object, FilterIndex, FilterIndex] | None = None

    _fields_ = (
        ("centroids", ctypes.c_void_p),
        ("centroid_units", ctypes.c_void_p),
        ("centroid_spreads", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
        ("residuals", ctypes.c_void_p),
        ("units", ctypes.c_void_p),
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
        centroid_units: Tensor,
        centroid_spreads: Tensor,
        offsets: Tensor,
        codes: Tensor,
        residuals: Tensor,
        units: Tensor,
        rows: Tensor,
        coarse: Tensor,
    ) -> Ivf:
        """Borrows the tensors: they must outlive the struct."""
        return cls(
            contiguous("centroids", centroids).data_ptr(),
            contiguous("centroid_units", centroid_units).data_ptr(),
            contiguous("centroid_spreads", centroid_spreads).data_ptr(),
            contiguous("offsets", offsets).data_ptr(),
            codes.data_ptr(),
            residuals.data_ptr(),
            contiguous("units", units).data_ptr(),
            contiguous("rows", rows).data_ptr(),
            contiguous("coarse", coarse).data_ptr(),
            offsets.numel() - 1,
            codes.shape[0],
            codes.shape[1],
            row_stride(codes, residuals),
        )


@cache
def _load() -> ctypes.CDLL | None:
    forced_level = os.environ.get(_FORCED, "")
    if forced_level not in ("", _REFERENCE, *_LEVELS):
        known = ", ".join((_REFERENCE, *_LEVELS))
        raise ValueError(f"{_FORCED} must be one of {known}, got {forced_level!r}")
    if forced_level == _REFERENCE:
        return None
    path = os.environ.get(_BUILT) or _beside()
    if path is None:
        _warn("they were not built, for want of a C++ compiler with OpenMP")
        return None
    try:
        native = ctypes.CDLL(str(path))
        abi = native.meshfold_abi()
    except (OSError, AttributeError) as error:
        _warn(f"{path} cannot be loaded ({error})")
        return None
    if abi != _ABI:
        _warn(f"{path} is of another version ({abi}, this one needs {_ABI})")
        return None
    native.meshfold_message.restype = ctypes.c_char_p
    native.meshfold_isa.argtypes = [ctypes.c_int32]
    if forced_level:
        native.meshfold_isa(_LEVELS.index(forced_level))
    return native


def _beside() -> Path | None:
    """The library that was built with this package; named as extension modules are."""
    found = sorted(Path(__file__).parent.glob("_native*"))
    return found[0] if found else None


def _warn(why: str) -> None:
    logging.getLogger("meshfold").warning(
        "meshfold runs on its reference operations, many times slower than its native kernels: %s."
        " Remedy: install g++ or clang, then `pip install --force-reinstall --no-deps --no-cache-dir meshfold`"
        " (in a checkout: `pip install -e .`)",
        why,
    )


# Threads that a kernel may use: torch's setting.
threads = torch.get_num_threads
