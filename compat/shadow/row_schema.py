"""The columns and types of files of pairs and of answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pyarrow as pa

from meshfold.compat.shadow.pair_rows import COMMON, OF_SIDE, SIDE
from meshfold.compat.shadow.pairs import PairSide
from meshfold.model.errors import InvalidData
from meshfold.model.schema import nearest

COLUMNS = frozenset((*COMMON, SIDE, *OF_SIDE, *(f"{side}_{name}" for side in PairSide for name in OF_SIDE)))
_PAIR_LISTS = (f"{PairSide.MESH}_item_ids", f"{PairSide.MODEL}_item_ids")
# Columns of which any makes a row a pair; a side that failed has no items.
_OF_PAIRS = frozenset(f"{side}_{name}" for side in PairSide for name in ("item_ids", "status"))

_STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


def check_columns(path: Path, names: Sequence[str]) -> None:
    """Raises InvalidData where the columns are neither those of pairs nor those of answers."""
    if not (has_pairs(names) or "item_ids" in names or "status" in names):
        raise InvalidData(
            f"{path}: expected the columns {' and '.join(_PAIR_LISTS)} (a row a pair), or side and item_ids (a row an "
            f"answer), got {', '.join(names[:20]) or 'none'}"
        )
    if "request_id" not in names:
        raise InvalidData(f"{path}: column request_id is missing{nearest('request_id', names)}")
    if twice := [name for name in names if name in COLUMNS and names.count(name) > 1]:
        raise InvalidData(f"{path}: column {twice[0]} is there twice; expected each column once")


def has_pairs(names: Collection[str]) -> bool:
    """Whether the columns are those of pairs; otherwise they are those of answers."""
    return not _OF_PAIRS.isdisjoint(names)


def target_of(path: Path, name: str, found: pa.DataType) -> pa.DataType | None:
    """The type to which a column is cast; None for no cast. Raises InvalidData."""
    expected, cast_to = _KINDS[_without_side(name)]
    if pa.types.is_null(found):
        return None
    plain = found.value_type if pa.types.is_dictionary(found) else found
    try:
        return cast_to(plain)
    except TypeError:
        raise InvalidData(f"{path}: column {name}: expected {expected}, got {found}") from None


def _without_side(name: str) -> str:
    for side in PairSide:
        name = name.removeprefix(f"{side}_")
    return name


def _is_list(found: pa.DataType) -> bool:
    return any(is_list(found) for is_list in _LISTS)


def _text(found: pa.DataType) -> pa.DataType:
    if any(is_string(found) for is_string in _STRINGS):
        return pa.string()
    raise TypeError


def _text_or_integer(found: pa.DataType) -> pa.DataType:
    if pa.types.is_uint64(found):
        # Not cast, so that pair_rows.py refuses single rows with values above 2^63 - 1.
        return found
    return pa.int64() if pa.types.is_integer(found) else _text(found)


def _number(found: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(found) or pa.types.is_floating(found):
        return pa.float64()
    raise TypeError


def _integer(found: pa.DataType) -> pa.DataType | None:
    return pa.int64() if pa.types.is_integer(found) else _number(found)


def _time(found: pa.DataType) -> pa.DataType | None:
    return pa.timestamp("ms", found.tz) if pa.types.is_timestamp(found) else _integer(found)


def _ids(found: pa.DataType) -> pa.DataType:
    if _is_list(found):
        value = found.value_type
        value = value.value_type if pa.types.is_dictionary(value) else value
        if pa.types.is_null(value):
            return pa.list_(pa.int64())
        return pa.list_(pa.float64() if pa.types.is_floating(value) else _text_or_integer(value))
    raise TypeError


def _scores(found: pa.DataType) -> pa.DataType:
    if _is_list(found):
        return pa.list_(pa.float64() if pa.types.is_null(found.value_type) else _number(found.value_type))
    raise TypeError


def _bytes(found: pa.DataType) -> pa.DataType:
    if pa.types.is_binary(found) or pa.types.is_large_binary(found) or pa.types.is_fixed_size_binary(found):
        return pa.binary()
    raise TypeError


def _truth(found: pa.DataType) -> pa.DataType:
    if pa.types.is_boolean(found):
        return found
    raise TypeError


def _map(found: pa.DataType) -> None:
    if not (pa.types.is_map(found) or pa.types.is_struct(found)):
        raise TypeError


# By column without its prefix: the expected type in words, and the type to which it is cast.
_KINDS: dict[str, tuple[str, Callable[[pa.DataType], pa.DataType | None]]] = {
    "request_id": ("a string or an integer", _text_or_integer),
    "surface": ("a string", _text),
    "user_key": ("a string or an integer", _text_or_integer),
    "unix_ms": ("an integer or a timestamp", _time),
    "max_results": ("an integer", _integer),
    "filter": ("a string", _text),
    "request": ("binary", _bytes),
    "is_redacted": ("a boolean", _truth),
    "served_by": ("a string", _text),
    "slices": ("a map of strings or a struct", _map),
    "side": ("a string", _text),
    "item_ids": ("a list of integers or strings", _ids),
    "scores": ("a list of numbers", _scores),
    "status": ("a string", _text),
    "latency_ms": ("a number", _number),
    "version": ("a string", _text),
}
