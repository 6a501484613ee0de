"""Sums of the members of each cluster, in fixed point, so that they do not depend on an order.

sum_c = sum of round(code_x * factor_x) over the members x of c        ties round to even
"""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation

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
    return _cluster_sums(codes, factors, members, clusters)


def cluster_sums_reference(codes: Tensor, factors: Tensor, members: Tensor, clusters: int) -> Tensor:
    """Every level gives these integers."""
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


_cluster_sums = Operation("cluster_sums", cluster_sums_reference)
_cluster_sums.register_import("cuda", "meshfold.kernels.gpu.cluster_sums", "cluster_sums_gpu")


@_cluster_sums.register_native
def _(codes: Tensor, factors: Tensor, members: Tensor, clusters: int) -> Tensor:
    sums = torch.empty((clusters, codes.shape[1]), dtype=torch.int64)
    library.call(
        "cluster_sums",
        *(library.contiguous("codes", codes), factors.contiguous(), members.contiguous()),
        *(codes.shape[0], *sums.shape, sums, library.threads()),
    )
    return sums


@_cluster_sums.register_fake
def _(codes: Tensor, factors: Tensor, members: Tensor, clusters: int) -> Tensor:
    return members.new_empty((clusters, codes.shape[1]))
