"""The nearest centroid of each item, from Int8 codes.

    closeness = float32(code_x . code_c) * (256 scale_c) * (512 scale_x) - |c|^2        nearest: the largest

|x - c|^2 is |x|^2 less the closeness, so that |x|^2 need not be known to choose. Dots are exact; every other step is
one operation an element, rounded on its own. Ties go to the smaller cluster.
"""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation

_ROWS_AT_A_TIME = 2048
# Up to this dimension a dot of Int8 codes is at most 2^24, which float32 holds exactly.
_FLOAT32_DIMENSION = 1024
_FLOAT32_MAX = torch.finfo(torch.float32).max
_NATIVE_DIMENSION = 65_536


def assign(
    codes: Tensor, scales: Tensor, centroids: Tensor, centroid_scales: Tensor
) -> tuple[Tensor, Tensor]:
    """(members: [n] int64 - the nearest centroid of each item, closeness: [n] float32 - to it).

    codes: [n, D] int8, scales: [n] float32 - items. centroids: [C, D] int8, centroid_scales: [C] float32; C at least 1.
    Scales are those of kernels/vectors/quantize.py, at least 0.
    """
    d = codes.shape[-1]
    expect("codes", codes, ("n", d), torch.int8)
    expect("scales", scales, (codes.shape[0],), torch.float32)
    expect("centroids", centroids, ("C", d), torch.int8)
    expect("centroid_scales", centroid_scales, (centroids.shape[0],), torch.float32)
    if not centroids.shape[0]:
        raise ValueError("centroids must be [C, D] int8 with C at least 1, got none")
    return _assign(codes, scales, centroids, centroid_scales)


def assign_reference(
    codes: Tensor, scales: Tensor, centroids: Tensor, centroid_scales: Tensor
) -> tuple[Tensor, Tensor]:
    """Every level gives these bytes."""
    exact = torch.float32 if codes.shape[1] <= _FLOAT32_DIMENSION else torch.float64
    table = centroids.to(exact).T.contiguous()
    factors, lengths = terms(centroids, centroid_scales)
    members = torch.empty(codes.shape[0], dtype=torch.int64, device=codes.device)
    closeness = torch.empty(codes.shape[0], dtype=torch.float32, device=codes.device)
    for start in range(0, codes.shape[0], _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        # An integer has one zero, a product of floats has two.
        near = (codes[part].to(exact) @ table).float() + 0.0
        near.mul_(factors).mul_((scales[part] * 512).unsqueeze(1)).sub_(lengths)
        closeness[part], members[part] = near.max(dim=1)
    return members, closeness


_assign = Operation("assign", assign_reference)
_assign.register_import("cuda", "meshfold.kernels.gpu.assign", "assign_gpu")


@_assign.register_native
def _(codes: Tensor, scales: Tensor, centroids: Tensor, centroid_scales: Tensor) -> tuple[Tensor, Tensor]:
    (n, d), c = codes.shape, centroids.shape[0]
    factors, lengths = terms(centroids, centroid_scales)
    item_factors = scales * 512
    if not d or not _finite(factors, lengths, item_factors, d):
        return assign_reference(codes, scales, centroids, centroid_scales)
    members, closeness = torch.empty(n, dtype=torch.int64), torch.empty(n, dtype=torch.float32)
    library.call(
        "assign",
        library.contiguous("codes", codes),
        *(part.contiguous() for part in (item_factors, centroids, factors, lengths)),
        *(n, c, d, members, closeness, library.threads()),
    )
    return members, closeness


@_assign.register_fake
def _(codes: Tensor, scales: Tensor, centroids: Tensor, centroid_scales: Tensor) -> tuple[Tensor, Tensor]:
    n = codes.shape[0]
    return codes.new_empty(n, dtype=torch.int64), scales.new_empty(n)


def terms(centroids: Tensor, centroid_scales: Tensor) -> tuple[Tensor, Tensor]:
    """(factors, lengths): [C] float32 - 256 scale_c, the value of a code of 1, and |c|^2."""
    factors = centroid_scales.double() * 256
    lengths = centroids.int().square().sum(1).double() * factors.square()
    return factors.float(), lengths.float()


def _finite(factors: Tensor, lengths: Tensor, item_factors: Tensor, dimension: int) -> bool:
    """Whether every step stays finite in float32. The native kernel orders infinities and NaN otherwise than torch."""
    if dimension > _NATIVE_DIMENSION or not item_factors.numel():
        return False
    dot = 2**14 * dimension * float(factors.double().abs().max())
    return (
        dot < _FLOAT32_MAX
        and dot * float(item_factors.double().abs().max()) < _FLOAT32_MAX / 2
        and float(lengths.double().abs().max()) < _FLOAT32_MAX / 2
    )
