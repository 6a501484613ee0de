"""Flattens a caller's columns and converts them for the message writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from meshfold.kernels.wire.columns import Int64s

Bools = npt.NDArray[np.bool_]

_INTEGERS = {
    FieldDescriptor.TYPE_INT32: np.int32,
    FieldDescriptor.TYPE_SINT32: np.int32,
    FieldDescriptor.TYPE_SFIXED32: np.int32,
    FieldDescriptor.TYPE_ENUM: np.int32,
    FieldDescriptor.TYPE_UINT32: np.uint32,
    FieldDescriptor.TYPE_FIXED32: np.uint32,
    FieldDescriptor.TYPE_INT64: np.int64,
    FieldDescriptor.TYPE_SINT64: np.int64,
    FieldDescriptor.TYPE_SFIXED64: np.int64,
    FieldDescriptor.TYPE_UINT64: np.uint64,
    FieldDescriptor.TYPE_FIXED64: np.uint64,
}
_FLOATS = {FieldDescriptor.TYPE_FLOAT: np.float32, FieldDescriptor.TYPE_DOUBLE: np.float64}
_ZIGZAG = (FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SINT64)
_FIXED = (
    FieldDescriptor.TYPE_SFIXED32,
    FieldDescriptor.TYPE_FIXED32,
    FieldDescriptor.TYPE_SFIXED64,
    FieldDescriptor.TYPE_FIXED64,
)


@dataclass(slots=True, eq=False)
class Flat:
    """The values of a column, concatenated. counts: lengths in each dimension, the outermost first: one number for all
    parts, or [parts] int64. present: [n], whether each value is present; None where all are."""

    values: Any
    counts: list[int | Int64s]
    present: Bools | None = None

    def instances(self, dimensions: int) -> int:
        """The number of parts of the outermost dimensions."""
        n = 1
        for counts in self.counts[:dimensions]:
            n = n * counts if isinstance(counts, int) else int(counts.sum())
        return n


def flatten(column: Any, dimensions: int) -> Flat:
    """Flattens a column that is not None. Raises ValueError for a wrong number of dimensions."""
    if dimensions == 0:
        return Flat([column], [])
    if isinstance(column, np.ndarray):
        if column.ndim != dimensions:
            raise ValueError(f"must have {dimensions} dimensions, has {column.ndim}")
        return Flat(column.reshape(-1), list(column.shape))
    if isinstance(column, str | bytes) or not isinstance(column, Sequence):
        raise ValueError(f"must be an array or a sequence, is a {type(column).__name__}")
    if dimensions == 1:
        return Flat(column, [len(column)])
    parts = [flatten(part, dimensions - 1) for part in column]
    arrays = [part.values for part in parts if isinstance(part.values, np.ndarray)]
    if parts and len(arrays) == len(parts):
        values: Any = (np.ma if any(map(np.ma.isMaskedArray, arrays)) else np).concatenate(arrays)
    else:
        values = list(chain.from_iterable(part.values for part in parts))
    counts: list[int | Int64s] = [len(parts), np.array([part.counts[0] for part in parts], np.int64)]
    for d in range(1, dimensions - 1):
        inner = [np.broadcast_to(part.counts[d], part.instances(d)) for part in parts]
        counts.append(np.concatenate([np.empty(0, np.int64), *inner]))
    return Flat(values, counts)


def without_absent(flat: Flat) -> Flat:
    """The present values, with `present` set."""
    values: Any = flat.values
    if isinstance(values, np.ma.MaskedArray):
        present = ~np.ma.getmaskarray(values)
        kept = values.data[present]
    elif isinstance(values, np.ndarray):
        return flat
    else:
        present = np.array([value is not None for value in values], np.bool_)
        kept = [value for value in values if value is not None]
    return Flat(kept, flat.counts, None if present.all() else present)


# Arguments of the writer: values, and the number of bytes of each where they are strings.
Written = tuple[npt.NDArray[Any] | bytes, int | Int64s | None]


def converter(field: FieldDescriptor) -> Callable[[Any], Written]:
    """The conversion of a field's values for the writer. It raises ValueError for values that do not fit the field,
    UnicodeEncodeError for a string that is not valid text."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return _strings
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes
    if is_map(field):
        return partial(_maps, GetMessageClass(field.containing_type), field.name)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _booleans
    if field.type in _FLOATS:
        return partial(_floats, np.dtype(_FLOATS[field.type]))
    return partial(_integers, np.dtype(_INTEGERS[field.type]), field.type in _ZIGZAG, field.type in _FIXED)


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def is_repeated(field: FieldDescriptor) -> bool:
    # protobuf 5 has no is_repeated, and protobuf 7 warns of label.
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def is_required(field: FieldDescriptor) -> bool:
    # protobuf 5 has no is_required, and protobuf 7 warns of label.
    if hasattr(field, "is_required"):
        return bool(field.is_required)
    return bool(field.label == FieldDescriptor.LABEL_REQUIRED)


def _integers(dtype: np.dtype[Any], is_zigzag: bool, is_fixed: bool, values: Any) -> Written:
    found = np.asarray(values)
    if found.dtype != dtype:
        limits = np.iinfo(dtype)
        if found.dtype.kind not in "iub" and found.size:
            # numpy has no common type for Python integers such as -1 and 2^63.
            if isinstance(values, np.ndarray) or not all(isinstance(value, int) for value in values):
                raise ValueError(f"must hold integers, holds {found.dtype}")
            found = np.array(values, object)
        if found.size and (int(found.min()) < limits.min or int(found.max()) > limits.max):
            raise ValueError(
                f"must lie from {limits.min} to {limits.max}, got {found.min()} to {found.max()}"
            )
        found = found.astype(dtype)
    if is_fixed:
        return found, None
    if is_zigzag:
        bits = found.astype(np.int64)
        return (bits << 1) ^ (bits >> 63), None
    return found.astype(np.int64 if dtype.kind == "i" else np.uint64, copy=False), None


def _floats(dtype: np.dtype[Any], values: Any) -> Written:
    found = np.asarray(values)
    if found.dtype != dtype:
        if found.dtype.kind not in "fiub" and found.size:
            raise ValueError(f"must hold numbers, holds {found.dtype}")
        # A float64 beyond float32 becomes infinity, as in the generated classes.
        with np.errstate(over="ignore"):
            found = found.astype(dtype)
    return found, None


def _booleans(values: Any) -> Written:
    found = np.asarray(values)
    if found.dtype.kind not in "iub" and found.size:
        raise ValueError(f"must hold truth values, holds {found.dtype}")
    return found.astype(bool).astype(np.int64), None


def _strings(values: Any) -> Written:
    strings = values.tolist() if isinstance(values, np.ndarray) else values
    try:
        if len(strings) == 1:
            data = strings[0].encode()
            return data, len(data)
        joined = "".join(strings)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"must hold strings: {error}") from None
    data = joined.encode()
    if len(data) == len(joined):
        return data, np.fromiter(map(len, strings), np.int64, len(strings))
    return data, np.array([len(string.encode()) for string in strings], np.int64)


def _bytes(values: Any) -> Written:
    strings = values.tolist() if isinstance(values, np.ndarray) else values
    if not all(isinstance(string, bytes) for string in strings):
        raise ValueError("must hold bytes")
    return b"".join(strings), np.fromiter(map(len, strings), np.int64, len(strings))


def _maps(message: Any, name: str, values: Sequence[Mapping[Any, Any]]) -> Written:
    """Encodes maps by the generated class: entries have the order of a hash table that differs between processes."""
    return _bytes([message(**{name: value}).SerializePartialToString() if value else b"" for value in values])
