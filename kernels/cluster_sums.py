"""Sums of the members of each cluster, in fixed point, so that they do not depend on an order.

sum_c = sum of round(code_x * factor_x) over the members x of c        ties round to even
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.expect import expect
from meshfold.kernels.operation import operation

# With a code of 128 the largest value is 2^30.
FACTOR_MAX = 2.0**23
_ROWS_AT_A_TIME = 65_536


def cluster_sums(codes: Tensor, factors: Tensor, members: Tensor, clusters: int) -> Tensor:
    """[C, D] int64, 0 for a cluster without members.

    codes: [n, D] int8. factors: [n] float64 - at most FACTOR_MAX on either side of 0. members: [n] int64 - the cluster
    of each. Raises ValueError where a factor or a member is out of range.
    """
    n = codes.shape[0]
    expect("codes", codes, (n, "D"), torch.int8)
    expect("factors", factors, (n,), torch.float64)
    expect("members", members, (n,), torch.int64)
    sums: Tensor = _cluster_sums(codes, factors, members, clusters)
    return sums


@operation("cluster_sums")
def _cluster_sums(codes: Tensor, factors: Tensor, members: Tensor, clusters: int) -> Tensor:
    return cluster_sums_reference(codes, factors, members, clusters)


def cluster_sums_reference(codes: Tensor, factors: Tensor, members: Tensor, clusters: int) -> Tensor:
    """What every level equals, integer for integer."""
    if ((members < 0) | (members >= clusters)).any():
        raise ValueError(f"members must lie in 0 to {clusters - 1}")
    if not (factors.abs() <= FACTOR_MAX).all():
        raise ValueError("factors must lie in -2^23 to 2^23")
    sums = torch.zeros((clusters, codes.shape[1]), dtype=torch.int64, device=codes.device)
    for start in range(0, codes.shape[0], _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        fixed = torch.round(codes[part].double() * factors[part].unsqueeze(1)).long()
        sums.index_add_(0, members[part], fixed)
    return sums


@_cluster_sums.register_kernel("cpu")
def _(codes: Tensor, factors: Tensor, members: Tensor, clusters: int) -> Tensor:
    if native.library() is None:
        return cluster_sums_reference(codes, factors, members, clusters)
    n, d = codes.shape
    held = [t.contiguous() for t in (factors, members)]
    sums = torch.empty((clusters, d), dtype=torch.int64)
    native.call(
        _native(),
        native.contiguous("codes", codes).data_ptr(),
        *(t.data_ptr() for t in held),
        n,
        clusters,
        d,
        sums.data_ptr(),
        native.threads(),
    )
    return sums


_cluster_sums.register_import("cuda", "meshfold.kernels.gpu.cluster_sums", "cluster_sums_gpu")


@_cluster_sums.register_fake
def _(codes: Tensor, factors: Tensor, members: Tensor, clusters: int) -> Tensor:
    return members.new_empty((clusters, codes.shape[1]))


@cache
def _native() -> ctypes._NamedFuncPointer:
    library = native.library()
    assert library is not None
    function = library.meshfold_cluster_sums
    function.argtypes = [*[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3, ctypes.c_void_p, ctypes.c_int32]
    return function
