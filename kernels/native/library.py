"""The native CPU kernels: found, loaded once, and called with tensors.

Sources are in kernels/cpp, behind a C interface, and are built when the package is installed. Without the library every
operation runs its reference, with the same answers, and one warning names the remedy.

MESHFOLD_KERNELS forces a lower level: avx512, avx2, plain, or reference for no library. Threads are torch's: the
library uses the OpenMP runtime that torch has loaded.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

# Version of the structs and functions of kernels/cpp, which structs.py and every call() mirror.
_ABI = 14
_LEVELS = ("plain", "avx2", "avx512")
_REFERENCE = "reference"
_FORCED = "MESHFOLD_KERNELS"
_SUCCESS, _INVALID, _OUT_OF_MEMORY = 0, 1, 2
# Another file to load: tests run libraries with other compiler flags.
_BUILT = "MESHFOLD_KERNELS_LIBRARY"

_forced_reference = False


def is_available() -> bool:
    """Whether operations run native kernels; else they run their references."""
    return not _forced_reference and _load() is not None


def loaded() -> ctypes.CDLL:
    """The library. Raises RuntimeError where there is none."""
    native = _load()
    if native is None:
        raise RuntimeError("the native kernels are not loaded")
    return native


def level() -> str:
    """The level in use: reference, plain, avx2 or avx512."""
    return _LEVELS[loaded().meshfold_isa(-1)] if is_available() else _REFERENCE


def levels() -> list[str]:
    """Every level that this processor runs, slowest first."""
    native = _load()
    if native is None:
        return [_REFERENCE]
    before = native.meshfold_isa(-1)
    highest = native.meshfold_isa(len(_LEVELS) - 1)
    native.meshfold_isa(before)
    return [_REFERENCE, *_LEVELS[: highest + 1]]


@contextmanager
def forced(name: str) -> Iterator[None]:
    """Sets the level of the whole process, one of levels(), for tests and benchmarks."""
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


def call(name: str, *arguments: object) -> None:
    """Calls meshfold_<name> of kernels/cpp. Tensors are passed by address, int as int64, the rest as ctypes has it.

    Raises ValueError where the function refuses an argument, MemoryError, RuntimeError.
    """
    function = _functions.get(name) or _bound(name, arguments)
    code = function(*[a.data_ptr() if isinstance(a, Tensor) else a for a in arguments])
    if code != _SUCCESS:
        raise refusal(code)


def _bound(name: str, arguments: tuple[object, ...]) -> ctypes._NamedFuncPointer:
    """The function, with the argument types of its first call."""
    function: ctypes._NamedFuncPointer = getattr(loaded(), f"meshfold_{name}")
    function.argtypes = [
        ctypes.c_int64
        if isinstance(a, int)
        else ctypes.c_int32
        if isinstance(a, ctypes.c_int32)
        else ctypes.c_void_p
        for a in arguments
    ]
    _functions[name] = function
    return function


_functions: dict[str, ctypes._NamedFuncPointer] = {}


def refusal(code: int) -> Exception:
    """The exception of a return code other than 0."""
    message = loaded().meshfold_message().decode("utf-8", "replace")
    return {_INVALID: ValueError, _OUT_OF_MEMORY: MemoryError}.get(code, RuntimeError)(message)


def threads() -> ctypes.c_int32:
    """Threads that a kernel may use: torch's setting."""
    return ctypes.c_int32(torch.get_num_threads())


def contiguous(name: str, tensor: Tensor) -> Tensor:
    """The tensor itself. Raises ValueError where a copy would be needed, which could be as large as the index."""
    if not tensor.is_cpu:
        raise ValueError(f"{name} must be on the CPU, as the queries are, got {tensor.device}")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous; call .contiguous() once, where it is made")
    return tensor


def row_stride(codes: Tensor, residuals: Tensor) -> int:
    """Bytes between the starts of two items, the same in both tables. codes, residuals: [N, D] int8.

    Raises ValueError where an item's values have gaps between them or the tables have different strides.
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


@cache
def _load() -> ctypes.CDLL | None:
    forced_level = os.environ.get(_FORCED, "")
    if forced_level not in ("", _REFERENCE, *_LEVELS):
        known = ", ".join((_REFERENCE, *_LEVELS))
        raise ValueError(f"{_FORCED} must be one of {known}, got {forced_level!r}")
    if forced_level == _REFERENCE:
        return None
    path = os.environ.get(_BUILT) or _installed()
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


def _installed() -> Path | None:
    """The library that was built with this package, named as extension modules are."""
    found = sorted(Path(__file__).parent.parent.glob("_native*"))
    return found[0] if found else None


def _warn(why: str) -> None:
    logging.getLogger("meshfold").warning(
        "meshfold runs on its reference operations, many times slower than its native kernels: %s."
        " Remedy: install g++ or clang, then `pip install --force-reinstall --no-deps --no-cache-dir meshfold`"
        " (in a checkout: `pip install -e .`)",
        why,
    )
