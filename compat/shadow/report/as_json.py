"""Converts a comparison to JSON and back.

    {"format": "meshfold.shadow.comparison", "version": 1, "comparison": {...}}

Names are those of comparison.py and pairs.py. NaN is null, an infinite number is "Infinity" or "-Infinity", bytes are
base64, a mapping whose keys are not strings is a list of [key, value].
"""

from __future__ import annotations

import math
import sys
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from meshfold.compat.shadow.comparison import Comparison
from meshfold.model.errors import InvalidData

FORMAT = "meshfold.shadow.comparison"
# Version of the format, raised with every incompatible change.
VERSION = 1

_INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}
_LARGEST = sys.float_info.max
# Most characters of a value in an error.
_SHOWN_CHARACTERS = 60


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values for json.dumps, without NaN or infinity."""
    return {"format": FORMAT, "version": VERSION, "comparison": _plain(comparison)}


def from_json(document: object) -> Comparison:
    """The inverse of to_json. document: from json.loads. Raises InvalidData with the path of the wrong field."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidData(f'expected an object with "format": "{FORMAT}", got {_shown(document)}')
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise InvalidData(
            f"version {_shown(version)} of {FORMAT} cannot be read, this program reads {VERSION}: "
            "write the report again with one program"
        )
    if extra := sorted(document.keys() - {"format", "version", "comparison"}):
        raise InvalidData(f"unknown field {_shown(extra[0])} beside format, version and comparison")
    comparison: Comparison = _typed(Comparison, document.get("comparison"), "comparison")
    return comparison


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        if all(type(key) is str for key in value):
            return {key: _plain(of_key) for key, of_key in value.items()}
        return [[_plain(key), _plain(of_key)] for key, of_key in value.items()]
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")
    return b64encode(value).decode() if isinstance(value, bytes) else value


def _typed(expected: Any, value: Any, path: str) -> Any:
    """Converts a plain value to a type. path: the value's path, for errors."""
    origin = get_origin(expected)
    if origin in (Union, UnionType):
        return _of_union(get_args(expected), value, path)
    if origin is tuple:
        return _tuple(get_args(expected), value, path)
    if origin is Mapping:
        key_type, value_type = get_args(expected)
        return _mapping(key_type, value_type, value, path)
    if is_dataclass(expected):
        return _object(expected, value, path)
    if isinstance(expected, type) and issubclass(expected, StrEnum):
        known = [member.value for member in expected]
        if value not in known:
            raise _unexpected(path, f"one of {', '.join(known)}", value)
        return expected(value)
    return _scalar(expected, value, path)


def _scalar(expected: Any, value: Any, path: str) -> Any:
    if expected is float:
        if value is None:
            return math.nan
        if isinstance(value, str) and value in _INFINITE:
            return _INFINITE[value]
        if type(value) in (int, float) and -_LARGEST <= value <= _LARGEST:
            return float(value)
        raise _unexpected(path, 'a number, null, "Infinity" or "-Infinity"', value)
    if expected is bytes:
        try:
            return b64decode(value, validate=True)
        except (TypeError, ValueError):
            raise _unexpected(path, "base64", value) from None
    if type(value) is not expected:
        named = {int: "an integer", str: "a string", bool: "true or false"}[expected]
        raise _unexpected(path, named, value)
    return value


def _of_union(members: tuple[Any, ...], value: Any, path: str) -> Any:
    if NoneType in members and value is None:
        return None
    there = [member for member in members if member is not NoneType]
    for member in there[:-1]:
        try:
            return _typed(member, value, path)
        except InvalidData:
            continue
    return _typed(there[-1], value, path)


def _tuple(of: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _unexpected(path, "a list", value)
    if len(of) == 2 and of[1] is Ellipsis:
        of = (of[0],) * len(value)
    if len(of) != len(value):
        raise InvalidData(f"{path}: expected a list of {len(of)}, got {len(value)}")
    return tuple(
        _typed(each, one, f"{path}[{i}]") for i, (each, one) in enumerate(zip(of, value, strict=True))
    )


def _mapping(key_type: Any, value_type: Any, value: Any, path: str) -> dict[Any, Any]:
    """Converts an object or a list of [key, value] to a mapping; an empty mapping is {} for any type of keys."""
    if isinstance(value, dict):
        entries = [(key, of_key, f"{path}.{_shown(key)}") for key, of_key in value.items()]
    elif isinstance(value, list):
        if any(not isinstance(entry, list) or len(entry) != 2 for entry in value):
            raise InvalidData(f"{path}: expected a list of [key, value]")
        entries = [(key, of_key, f"{path}[{i}]") for i, (key, of_key) in enumerate(value)]
    else:
        raise _unexpected(path, "an object or a list of [key, value]", value)
    mapping: dict[Any, Any] = {}
    for key, of_key, where in entries:
        read = _typed(key_type, key, f"{where}, its key")
        if read in mapping:
            raise InvalidData(f"{where}: the key {_shown(key)} stands twice")
        mapping[read] = _typed(value_type, of_key, where)
    return mapping


def _object(expected: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise _unexpected(path, "an object", value)
    hints = _hints(expected)
    if extra := sorted(value.keys() - hints.keys()):
        raise InvalidData(f"{path}: unknown field {_shown(extra[0])}")
    if missing := [name for name in hints if name not in value]:
        raise InvalidData(f"{path}: the field {missing[0]} is missing")
    return expected(**{name: _typed(hint, value[name], f"{path}.{name}") for name, hint in hints.items()})


@cache
def _hints(of: type) -> dict[str, Any]:
    return get_type_hints(of)


def _unexpected(path: str, expected: str, value: object) -> InvalidData:
    return InvalidData(f"{path}: expected {expected}, got {_shown(value)}")


def _shown(value: object) -> str:
    """A value on one line, shortened, for errors."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
