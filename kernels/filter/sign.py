"""The signature of all items: for each field a row of the items that have it, and rows for its values.

    planes    value planes[j] has row first + j, exact
    hashed    any other value v has a row in each of `hashes` blocks of `part` rows behind the planes; in block h
              h part + floor(upper(mix(v ^ mix(h + 1))) part / 2^32)

upper gives the upper 32 bits of 64, and mix is the finaliser of splitmix64. That each hash has rows of its own keeps
a value's rows distinct (a partitioned Bloom filter).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from meshfold.kernels.expect import expect
from meshfold.kernels.filter.bundles import WORDS, count, pack
from meshfold.kernels.filter.ragged import ranges
from meshfold.kernels.native import library
from meshfold.kernels.operation import Operation


@dataclass(frozen=True, eq=False)
class SignedField:
    """Values of N items in a field, in the order of the catalog, and the signature rows of the field.

    offsets: [N + 1] int64, values: [M] int64 - item i has values[offsets[i] : offsets[i + 1]]. planes: [P] int64,
    ascending. first: the first row. part: rows of a hash. hashes: 0 where every value has a plane, or none has a row.
    """

    offsets: Tensor
    values: Tensor
    planes: Tensor
    first: int
    part: int
    hashes: int


def sign(fields: Sequence[SignedField], order: Tensor, rows: int) -> Tensor:
    """[G, R, 8] int64: the items with field f in row f, then rows of values; bits as in kernels/filter/bundles.py.

    order: [N] int64 - the catalog's place of the item at each position. rows: R.
    """
    n = order.numel()
    expect("order", order, ("N",), torch.int64)
    for f, field in enumerate(fields):
        expect("offsets", field.offsets, (n + 1,), torch.int64)
        expect("values", field.values, ("M",), torch.int64)
        expect("planes", field.planes, ("P",), torch.int64)
        taken = field.planes.numel() + field.part * field.hashes
        if len(fields) > rows or field.part < 0 or field.hashes < 0:
            raise ValueError(
                f"{len(fields)} fields need as many rows, and counts from 0 on; there are {rows} rows"
            )
        if taken and not len(fields) <= field.first <= rows - taken:
            raise ValueError(f"field {f} takes {taken} rows from row {field.first} on, of {rows}")
    return _sign(fields, order, rows)


def sign_reference(fields: Sequence[SignedField], order: Tensor, rows: int) -> Tensor:
    """Every level gives these bits. A row at a time, to take little memory."""
    n = order.numel()
    signature = order.new_zeros((count(n), rows, WORDS))

    def write(row: int, owners: Tensor) -> None:
        members = torch.zeros(n, dtype=torch.bool, device=order.device)
        members[owners] = True
        signature[:, row] = pack(members)

    for f, field in enumerate(fields):
        begin = field.offsets[order]
        lengths = field.offsets[order + 1] - begin
        values = field.values[ranges(begin, lengths)]
        owners = torch.repeat_interleave(torch.arange(n, device=order.device), lengths)
        write(f, owners)
        for j, plane in enumerate(field.planes.tolist()):
            write(field.first + j, owners[values == plane])
        others = ~torch.isin(values, field.planes)
        if field.planes.numel() and not field.hashes and others.any():
            raise ValueError(f"an item holds value {int(values[others][0])}, which has no plane")
        values, owners = values[others], owners[others]
        first = field.first + field.planes.numel()
        for h, row in enumerate(hashed_rows(values, field.part, field.hashes).unbind(1)):
            for j in range(h * field.part, (h + 1) * field.part):
                write(first + j, owners[row == j])
    return signature


def hashed_rows(values: Tensor, part: int, hashes: int) -> Tensor:
    """values: [n] int64 -> [n, hashes] int64, rows from the first hashed one on."""
    salts = _mix(torch.arange(1, hashes + 1, device=values.device))
    upper = (_mix(values[:, None] ^ salts) >> 32) & 0xFFFF_FFFF
    return (upper * part >> 32) + torch.arange(hashes, device=values.device) * part


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser: each bit of the input moves each bit of the output. int64 wraps as uint64 does."""
    x = x + _signed(0x9E37_79B9_7F4A_7C15)
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * _signed(0xBF58_476D_1CE4_E5B9)
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * _signed(0x94D0_49BB_1331_11EB)
    return x ^ (x >> 31 & (1 << 33) - 1)


def _signed(number: int) -> int:
    return number - (1 << 64)


_sign = Operation("sign", sign_reference)
_sign.register_import("cuda", "meshfold.kernels.gpu.sign", "sign_gpu")


class _Field(ctypes.Structure):
    """struct SignedField of kernels/cpp/filter/sign.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("offsets", "values", "planes")),
        *((name, ctypes.c_int64) for name in ("plane_count", "first", "part", "hashes")),
    )


@_sign.register_native
def _(fields: Sequence[SignedField], order: Tensor, rows: int) -> Tensor:
    signature = order.new_empty((count(order.numel()), rows, WORDS))
    given = [
        _Field(
            *(
                library.contiguous(name, getattr(f, name)).data_ptr()
                for name in ("offsets", "values", "planes")
            ),
            *(f.planes.numel(), f.first, f.part, f.hashes),
        )
        for f in fields
    ]
    library.call(
        "sign",
        *((_Field * len(given))(*given), len(given)),
        *(library.contiguous("order", order), order.numel(), rows, signature, library.threads()),
    )
    return signature


@_sign.register_fake
def _(fields: Sequence[SignedField], order: Tensor, rows: int) -> Tensor:
    return order.new_empty((count(order.numel()), rows, WORDS))
