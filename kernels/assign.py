"""The nearest centroid of each item, from Int8 codes.

    closeness = float32(code_x . code_c) * (256 unit_c) * (512 unit_x) - |c|^2        nearest: the largest

|x - c|^2 is |x|^2 less the closeness, so that |x|^2 need not be known to choose. Dots are exact; every other step is
one operation an element, rounded on its own. Ties go to the smaller cluster.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.expect import expect
from meshfold.kernels.operation import operation

_ROWS_AT_A_TIME = 2048
# Up to this dimension a dot of Int8 codes is at most 2^24, which float32 holds exactly.
_FLOAT32_DIMENSION = 1024
_FLOAT32_MAX = torch.finfo(torch.float32).max
_NATIVE_DIMENSION = 65_536


def assign(codes: Tensor, units: Tensor, centroids: Tensor, centroid_units: Tensor) -> tuple[Tensor, Tensor]:
    """(members: [n] int64 - the nearest centroid of each item, closeness: [n] float32 - to it).

    codes: [n, D] int8, units: [n] float32 - items. centroids: [C, D] int8, centroid_units: [C] float32; C at least 1.
    Units are those of kernels/quantize.py, at least 0.
    """
    d = codes.shape[-1]
    expect("codes", codes, ("n", d), torch.int8)
    expect("units", units, (codes.shape[0],), torch.float32)
    expect("centroids", centroids, ("C", d), torch.int8)
    expect("centroid_units", centroid_units, (centroids.shape[0],), torch.float32)
    if not centroids.shape[0]:
        raise ValueError("centroids must be [C, D] int8 with C at least 1, got none")
    members, closeness = _assign(codes, units, centroids, centroid_units)
    return members, closeness


@operation("assign")
def _assign(codes: Tensor, units: Tensor, centroids: Tensor, centroid_units: Tensor) -> tuple[Tensor, Tensor]:
    return assign_reference(codes, units, centroids, centroid_units)


def assign_reference(
    codes: Tensor, units: Tensor, centroids: Tensor, centroid_units: Tensor
) -> tuple[Tensor, Tensor]:
    """What every level equals, bit for bit."""
    exact = torch.float32 if codes.shape[1] <= _FLOAT32_DIMENSION else torch.float64
    table = centroids.to(exact).T.contiguous()
    scales, lengths = terms(centroids, centroid_units)
    members = torch.empty(codes.shape[0], dtype=torch.int64, device=codes.device)
    closeness = torch.empty(codes.shape[0], dtype=torch.float32, device=codes.device)
    for start in range(0, codes.shape[0], _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        # An integer has one zero, a product of floats has two.
        near = (codes[part].to(exact) @ table).float() + 0.0
        near.mul_(scales).mul_((units[part] * 512).unsqueeze(1)).sub_(lengths)
        closeness[part], members[part] = near.max(dim=1)
    return members, closeness


@_assign.register_kernel("cpu")
def _(codes: Tensor, units: Tensor, centroids: Tensor, centroid_units: Tensor) -> tuple[Tensor, Tensor]:
    (n, d), c = codes.shape, centroids.shape[0]
    scales, lengths = terms(centroids, centroid_units)
    factors = units * 512
    if native.library() is None or not d or not _finite(scales, lengths, factors, d):
        return assign_reference(codes, units, centroids, centroid_units)
    held = [t.contiguous() for t in (factors, centroids, scales, lengths)]
    members, closeness = torch.empty(n, dtype=torch.int64), torch.empty(n, dtype=torch.float32)
    native.call(
        _native(),
        native.contiguous("codes", codes).data_ptr(),
        *(t.data_ptr() for t in held),
        n,
        c,
        d,
        members.data_ptr(),
        closeness.data_ptr(),
        native.threads(),
    )
    return members, closeness


_assign.register_import("cuda", "meshfold.kernels.gpu.assign", "assign_gpu")


@_assign.register_fake
def _(codes: Tensor, units: Tensor, centroids: Tensor, centroid_units: Tensor) -> tuple[Tensor, Tensor]:
    n = codes.shape[0]
    return codes.new_empty(n, dtype=torch.int64), units.new_empty(n)


def terms(centroids: Tensor, centroid_units: Tensor) -> tuple[Tensor, Tensor]:
    """(scales, lengths): [C] float32 - 256 unit_c, for a code is worth 256 units, and |c|^2."""
    scales = centroid_units.double() * 256
    lengths = centroids.int().square().sum(1).double() * scales.square()
    return scales.float(), lengths.float()


def _finite(scales: Tensor, lengths: Tensor, factors: Tensor, dimension: int) -> bool:
    """Whether no step can leave float32: of infinities and NaN, torch has an order of its own."""
    if dimension > _NATIVE_DIMENSION or not factors.numel():
        return False
    dot = 2**14 * dimension * float(scales.double().abs().max())
    return (
        dot < _FLOAT32_MAX
        and dot * float(factors.double().abs().max()) < _FLOAT32_MAX / 2
        and float(lengths.double().abs().max()) < _FLOAT32_MAX / 2
    )


@cache
def _native() -> ctypes._NamedFuncPointer:
    library = native.library()
    assert library is not None
    function = library.meshfold_assign
    function.argtypes = [
        *[ctypes.c_void_p] * 5,
        *[ctypes.c_int64] * 3,
        *[ctypes.c_void_p] * 2,
        ctypes.c_int32,
    ]
    return function
