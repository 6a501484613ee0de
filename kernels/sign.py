"""The signature of all items: for each field a row of who has it, and rows of who has which of its values.

    planes    value planes[j] has row first + j, exact
    hashed    any other value v has a row in each of `hashes` blocks of `part` rows behind the planes; in block h
              h part + floor(upper(mix(v ^ mix(h + 1))) part / 2^32)

upper gives the upper 32 bits of 64, and mix is the finaliser of splitmix64. That each hash has rows of its own keeps
a value's rows distinct (a partitioned Bloom filter).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from meshfold.kernels import native
from meshfold.kernels.bundles import WORDS, count, pack
from meshfold.kernels.expect import expect
from meshfold.kernels.operation import operation
from meshfold.kernels.ragged import ranges


@dataclass(frozen=True, eq=False)
class SignedField:
    """What N items hold in a field, in the catalog's order, and the rows that stand for it.

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
    """[G, R, 8] int64: who has field f in row f, then rows of values; bits as in kernels/bundles.py.

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
    signature: Tensor = _sign(
        [f.values for f in fields],
        [f.offsets for f in fields],
        [f.planes for f in fields],
        [f.first for f in fields],
        [f.part for f in fields],
        [f.hashes for f in fields],
        order,
        rows,
    )
    return signature


def sign_reference(fields: Sequence[SignedField], order: Tensor, rows: int) -> Tensor:
    """The same in plain torch, on any device. A row at a time, so that little memory is taken."""
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


def _flat(run: Callable[[Sequence[SignedField], Tensor, int], Tensor]) -> Callable[..., Tensor]:
    """As torch takes an operation: tensors, lists of them and numbers."""

    def flat(
        values: list[Tensor],
        offsets: list[Tensor],
        planes: list[Tensor],
        first: list[int],
        part: list[int],
        hashes: list[int],
        order: Tensor,
        rows: int,
    ) -> Tensor:
        fields = [SignedField(*f) for f in zip(offsets, values, planes, first, part, hashes, strict=True)]
        return run(fields, order, rows)

    return flat


def _on_cpu(fields: Sequence[SignedField], order: Tensor, rows: int) -> Tensor:
    run = sign_reference if native.library() is None else _sign_native
    return run(fields, order, rows)


def _on_cuda(fields: Sequence[SignedField], order: Tensor, rows: int) -> Tensor:
    from meshfold.kernels.gpu.sign import sign_gpu

    return sign_gpu(fields, order, rows)


_sign = operation("sign")(_flat(sign_reference))
_sign.register_kernel("cpu")(_flat(_on_cpu))
_sign.register_kernel("cuda")(_flat(_on_cuda))


@_sign.register_fake
def _(
    values: list[Tensor],
    offsets: list[Tensor],
    planes: list[Tensor],
    first: list[int],
    part: list[int],
    hashes: list[int],
    order: Tensor,
    rows: int,
) -> Tensor:
    return order.new_empty((count(order.numel()), rows, WORDS))


class _Field(ctypes.Structure):
    """struct SignedField of kernels/cpp/sign.cpp."""

    _fields_ = (
        ("offsets", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("planes", ctypes.c_void_p),
        ("plane_count", ctypes.c_int64),
        ("first", ctypes.c_int64),
        ("part", ctypes.c_int64),
        ("hashes", ctypes.c_int64),
    )


def _sign_native(fields: Sequence[SignedField], order: Tensor, rows: int) -> Tensor:
    n = order.numel()
    signature = torch.empty((count(n), rows, WORDS), dtype=torch.int64)
    held = (_Field * len(fields))(
        *(
            _Field(
                native.contiguous("offsets", f.offsets).data_ptr(),
                native.contiguous("values", f.values).data_ptr(),
                native.contiguous("planes", f.planes).data_ptr(),
                f.planes.numel(),
                f.first,
                f.part,
                f.hashes,
            )
            for f in fields
        )
    )
    native.call(
        _function(),
        ctypes.addressof(held),
        len(fields),
        native.contiguous("order", order).data_ptr(),
        n,
        rows,
        signature.data_ptr(),
        native.threads(),
    )
    return signature


@cache
def _function() -> ctypes._NamedFuncPointer:
    function = native.loaded().meshfold_sign
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, number, pointer, number, number, pointer, ctypes.c_int32]
    return function
