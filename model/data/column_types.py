"""Normalisation of Arrow types: writers choose several types for the same values, and files of one column differ.

A column of a plain type holds nulls, bools, whole numbers, floats, decimals, dates, timestamps, large strings, or large
lists of these. Types that no field can hold stay unchanged. Empty strings and NaN are missing values: they become null.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.model.data.exact_numbers import (
    EXACT_BELOW,
    Altered,
    BadValue,
    first_uncast,
    float64s,
    int64s,
    whole_limit,
)


class BadPart(Exception):
    """A value that keeps parts from being joined. part, place: of the value, from 0."""

    def __init__(self, part: int, place: int, message: str) -> None:
        super().__init__(message)
        self.part, self.place = part, place


def plain(values: pa.Array) -> pa.Array:
    """The array with its plain type; the same object where the type is plain already.

    Raises BadValue at the first bytes that are not UTF-8.
    """
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _uuids(values) if str(kind) == "extension<arrow.uuid>" else plain(values.storage)
    if pa.types.is_dictionary(kind):
        return plain(values.dictionary).take(values.indices)
    if pa.types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(values))
    if is_any_list(kind):
        return _plain_lists(values)
    if pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return plain(values.cast(pa.large_binary()))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return plain(_decoded(values))
    if is_string(kind):
        values = values if pa.types.is_large_string(kind) else values.cast(pa.large_string())
        full = pc.greater(pc.binary_length(values), 0)
        return values if pc.all(full, min_count=0).as_py() else _where(full, values)
    if pa.types.is_decimal(kind) and kind.bit_width < 128:
        # Arrow 26 fails to cast a decimal32 of 2.0 to int64, as out of bounds.
        return values.cast(pa.decimal128(kind.precision, kind.scale))
    if pa.types.is_floating(kind):
        missing = pc.is_nan(values.cast(pa.float32()) if pa.types.is_float16(kind) else values)
        return _where(pc.invert(missing), values) if pc.any(missing).as_py() else values
    return values


Joined = tuple[list[pa.ChunkedArray], int]


def join(parts: Sequence[pa.ChunkedArray]) -> Joined:
    """Casts plain parts to one type: (parts, the limit below which whole numbers are exact in their float types).

    A part without values fits every type. Bools and dates beside strings become strings, dates beside timestamps become
    timestamps. Numbers of several types become int64 where all are whole, else float64; no value changes. Raises
    BadPart.
    """
    with_values = [part for part in parts if part.null_count < len(part)]
    if not with_values:
        return [_nulls(len(part), pa.null()) for part in parts], EXACT_BELOW
    kinds = {part.type for part in with_values}
    exact_below = min((whole_limit(kind) or EXACT_BELOW for kind in kinds), default=EXACT_BELOW)
    if len(kinds) == 1:
        (kind,) = kinds
        return [part if part.type == kind else _nulls(len(part), kind) for part in parts], exact_below
    families = {_family(kind) for kind in kinds}
    if families == {"list"}:
        return _joined_lists(parts)
    if families <= {"number", "bool"}:
        return _joined_numbers(parts), exact_below
    if "string" in families and families <= {"string", "bool", "date"}:
        return _cast(parts, pa.large_string()), exact_below
    if families <= {"date", "timestamp"}:
        return _cast(parts, _finest(kinds)), exact_below
    first = with_values[0].type
    for place, part in enumerate(parts):
        if part.null_count < len(part) and _family(part.type) != _family(first):
            row = int(np.argmax(part.is_valid().to_numpy()))
            raise BadPart(
                place,
                row,
                f"expected {named(first)} as in the files before, got {shown(part[row])} of type {named(part.type)};"
                " write all files with one type",
            )
    raise BadPart(
        0, 0, f"its files hold {', '.join(sorted(map(named, kinds)))}; write all files with one type"
    )


def named(kind: pa.DataType) -> str:
    """The name of a plain type for messages."""
    if pa.types.is_large_string(kind):
        return "string"
    return f"list<{named(kind.value_type)}>" if is_any_list(kind) else str(kind)


def shown(value: pa.Scalar) -> str:
    """A value as text for messages, in 60 characters at most."""
    text = repr(value.as_py())
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_any_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def _family(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_boolean(kind):
        return "bool"
    if is_any_list(kind):
        return "list"
    if is_string(kind):
        return "string"
    if pa.types.is_date(kind):
        return "date"
    return "timestamp" if pa.types.is_timestamp(kind) else str(kind)


def _where(kept: pa.Array, values: pa.Array) -> pa.Array:
    return pc.if_else(kept, values, pa.scalar(None, values.type))


def _nulls(n: int, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.nulls(n, kind)])


def _uuids(values: pa.Array) -> pa.Array:
    return pa.array([None if v is None else str(v) for v in values.to_pylist()], pa.large_string())


def _decoded(values: pa.Array) -> pa.Array:
    """Bytes as strings."""
    values = values.cast(pa.large_binary())
    try:
        return values.cast(pa.large_string())
    except pa.ArrowInvalid:
        bad = first_uncast(values, pa.large_string())
    raise BadValue(bad, f"expected UTF-8 text, got {shown(values[bad])}; write the column as strings")


def _plain_lists(values: pa.Array) -> pa.Array:
    flat = values.flatten()
    try:
        elements = plain(flat)
    except BadValue as fault:
        raise BadValue(_row_of(values, fault.place), str(fault)) from fault
    if elements is flat and pa.types.is_large_list(values.type):
        return values
    return _lists_of(values, elements)


def _lists_of(lists: pa.Array, elements: pa.Array) -> pa.Array:
    """Lists of the same lengths with other elements."""
    mask = lists.is_null() if lists.null_count else None
    return pa.LargeListArray.from_arrays(pa.array(_offsets(lists)), elements, mask=mask)


def _offsets(lists: pa.Array) -> np.ndarray:
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _row_of(lists: pa.Array, place: int) -> int:
    return int(np.searchsorted(_offsets(lists), place, side="right")) - 1


def _joined_lists(parts: Sequence[pa.ChunkedArray]) -> Joined:
    wholes = [
        part.combine_chunks() if is_any_list(part.type) else pa.nulls(len(part), pa.large_list(pa.null()))
        for part in parts
    ]
    try:
        flats, exact_below = join([pa.chunked_array([whole.flatten()]) for whole in wholes])
    except BadPart as fault:
        raise BadPart(fault.part, _row_of(wholes[fault.part], fault.place), str(fault)) from fault
    lists = [_lists_of(whole, flat.combine_chunks()) for whole, flat in zip(wholes, flats, strict=True)]
    return [pa.chunked_array([part]) for part in lists], exact_below


def _joined_numbers(parts: Sequence[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    whole, floats, altered = [], [], None
    for place, part in enumerate(parts):
        try:
            whole.append(int64s(part, whole_limit(part.type)))
        except Altered as fault:
            altered = altered or BadPart(place, fault.place, str(fault))
        except BadValue:
            altered = None
            break
    if len(whole) == len(parts):
        return whole
    for place, part in enumerate(parts):
        try:
            floats.append(float64s(part))
        except BadValue as fault:
            raise altered or BadPart(place, fault.place, str(fault)) from fault
    return floats


def _cast(parts: Sequence[pa.ChunkedArray], kind: pa.DataType) -> list[pa.ChunkedArray]:
    joined = []
    for place, part in enumerate(parts):
        try:
            joined.append(_nulls(len(part), kind) if part.null_count == len(part) else part.cast(kind))
        except pa.ArrowInvalid as fault:
            row = first_uncast(part, kind)
            raise BadPart(
                place,
                row,
                f"expected {kind} as in other files, got {shown(part[row])}; write all files with one type",
            ) from fault
    return joined


def _finest(kinds: set[pa.DataType]) -> pa.DataType:
    """The type for dates and timestamps of all these units, with a zone where one of them has one."""
    units = ["s", "ms", "us", "ns"]
    stamps = [kind for kind in kinds if pa.types.is_timestamp(kind)]
    if not stamps:
        return pa.date32()
    unit = max((kind.unit for kind in stamps), key=units.index)
    return pa.timestamp(unit, "UTC" if any(kind.tz for kind in stamps) else None)
