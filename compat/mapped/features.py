"""Reads features of the user and weights of tasks from a caller's request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from meshfold.compat.mapped.getters import getter
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paths import Path, kind_of
from meshfold.compat.mapped.values import Metadata, Scope, Value, value_of
from meshfold.model.errors import InvalidQuery
from meshfold.model.types import FeatureList

_KINDS = ("string", "integer", "number", "bool")
# Stands for all features of a request, by their own names.
_EVERY = "*"


@dataclass(frozen=True, eq=False)
class Features:
    """Features of requests. read: reads them from a request. names: paths by feature. listed, counted: paths of
    entries, and of the values of an entry."""

    read: Callable[[Any, Metadata], Mapping[str, FeatureList]]
    names: Mapping[str, str]
    listed: tuple[Path, ...] = ()
    counted: tuple[Path, ...] = ()
    metadata: tuple[str, ...] = ()


def features_of(part: Part, scope: Scope) -> Features:
    """Compiles a table of features: values by the feature's name; under "*" all entries of a map or of repeated
    messages. Raises InvalidMapping."""
    table = part.table()
    single = {name: value_of(each, scope, _KINDS, True) for name, each in table.items() if name != _EVERY}
    every, listed = (_every(table[_EVERY], scope)) if _EVERY in table else (None, None)
    names = {name: value.name for name, value in single.items()}
    if listed is not None:
        names[_EVERY] = listed.text

    def read(message: Any, metadata: Metadata) -> Mapping[str, FeatureList]:
        found: dict[str, FeatureList] = {}
        for name, value in single.items():
            held = value.read(message, metadata)
            if held is None or (value.many and not len(held)):
                continue
            found[name] = _listed(held if value.many or isinstance(held, list) else [held], value.name)
        if every is not None:
            every(message, metadata, found)
        return found

    counted = tuple(value.path for value in single.values() if value.many and value.path is not None)
    metadata = tuple(key for value in single.values() for key in value.metadata)
    return Features(read, names, () if listed is None else (listed,), counted, metadata)


def _listed(values: Sequence[Any], name: str) -> FeatureList:
    """A feature's values as a list of one kind."""
    if isinstance(values, np.ndarray):
        with np.errstate(over="ignore"):
            return values.astype(np.float32 if values.dtype.kind == "f" else np.int64)
    first = values[0]
    if isinstance(first, str):
        return tuple(values)
    try:
        if isinstance(first, float):
            with np.errstate(over="ignore"):
                return np.array(values, np.float32)
        return np.array(values, np.int64)
    except (TypeError, ValueError, OverflowError):
        raise InvalidQuery(name, "holds values of more than one kind") from None


def _every(part: Part, scope: Scope) -> tuple[Callable[[Any, Metadata, dict[str, FeatureList]], None], Path]:
    if "names" in part:
        return _columns(part, scope)
    table = part.table({"path", "name", "values"}, ("path",))
    path = scope.path(table["path"])
    get = getter(path)
    if path.kind == "map":
        if "name" in table:
            raise table["name"].error("a map's keys are the names; leave it out")
        held = path.steps[-1].field.message_type.fields_by_name["value"]
        if kind_of(held) == "message":
            if "values" not in table:
                raise part.error(f"values is missing: paths within {held.message_type.full_name}")
            read = _values(table["values"], scope.within(path))
        elif "values" in table:
            raise table["values"].error("the map holds values; leave it out")
        else:
            read = _alone

        def of_map(message: Any, metadata: Metadata, found: dict[str, FeatureList]) -> None:
            for name, value in (get(message) or {}).items():
                found[name] = read(value, metadata, f'{path.text}["{name}"]')

        return of_map, path
    if path.kind != "message" or not path.many:
        raise table["path"].error(f"{path.text!r} must lead to a map or to repeated messages")
    for needed in ("name", "values"):
        if needed not in table:
            raise part.error(f"{needed} is missing: a path within {path.leaf.message_type.full_name}")
    inner = scope.within(path)
    named = value_of(table["name"], inner, ("string",))
    read = _values(table["values"], inner)

    def of_list(message: Any, metadata: Metadata, found: dict[str, FeatureList]) -> None:
        for place, entry in enumerate(get(message)):
            name = named.read(entry, metadata) or ""
            here = f"{path.text}[{place}]"
            if name in found:
                raise InvalidQuery(here, f"{name!r} has come before; send each feature once")
            found[name] = read(entry, metadata, here)

    return of_list, path


def _columns(
    part: Part, scope: Scope
) -> tuple[Callable[[Any, Metadata, dict[str, FeatureList]], None], Path]:
    """Reads two lists of equal length, names and values. A name is repeated for each of its values."""
    table = part.table({"names", "values"}, ("names", "values"))
    names = value_of(table["names"], scope, ("string",), many=True)
    values = value_of(table["values"], scope, _KINDS, many=True)
    for each, written in ((names, table["names"]), (values, table["values"])):
        if not each.many or each.path is None:
            raise written.error(f"{each.name!r} must lead to a list")
    assert names.path is not None

    def read(message: Any, metadata: Metadata, found: dict[str, FeatureList]) -> None:
        keys, held = names.read(message, metadata), values.read(message, metadata)
        if len(keys) != len(held):
            raise InvalidQuery(names.name, f"has {len(keys)} entries, and {values.name} {len(held)}")
        by_name: dict[str, list[Any]] = {}
        for key, value in zip(keys, held, strict=True):
            by_name.setdefault(key, []).append(value)
        for key, own in by_name.items():
            found[key] = _listed(own, values.name)

    return read, names.path


def _alone(value: Any, _: Metadata, name: str) -> FeatureList:
    return _listed([value], name)


def _values(part: Part, inner: Scope) -> Callable[[Any, Metadata, str], FeatureList]:
    """Reads the values of an entry: those of several paths of which at most one is set."""
    values = [value_of(each, inner, _KINDS, True) for each in part.entries()]
    names = ", ".join(value.name for value in values)

    def read(entry: Any, metadata: Metadata, here: str) -> FeatureList:
        empty: Value | None = None
        for value in values:
            held = value.read(entry, metadata)
            if held is not None and (not value.many or len(held)):
                return _listed(held if value.many else [held], here)
            if empty is None and value.many and _is_set(value, entry):
                empty = value
        if empty is None:
            raise InvalidQuery(here, f"none of {names} is set; set one")
        if empty.kind == "string":
            return ()
        return np.empty(0, np.int64) if empty.kind == "integer" else np.empty(0, np.float32)

    return read


def _is_set(value: Value, entry: Any) -> bool:
    """Whether a list is set, though empty, which only a list in its own message can show."""
    assert value.path is not None
    first = value.path.steps[0].field
    return bool(first.has_presence and not first.is_extension and entry.HasField(first.name))


def weights_of(part: Part, scope: Scope) -> tuple[Callable[[Any], Mapping[str, float]], Path]:
    """Compiles task weights: a map from tasks to numbers, or repeated messages. Raises InvalidMapping."""
    if isinstance(part.raw, str):
        path = scope.path(part)
        if path.kind != "map":
            raise part.error(f"{path.text!r} must be a map from tasks to numbers")
        held = path.steps[-1].field.message_type.fields_by_name
        if kind_of(held["key"]) != "string" or kind_of(held["value"]) not in ("number", "integer"):
            raise part.error(f"{path.text!r} must be a map from strings to numbers")
        get = getter(path)
        return (lambda message: dict(get(message) or {})), path
    table = part.table({"path", "name", "value"}, ("path", "name", "value"))
    path = scope.path(table["path"])
    if path.kind != "message" or not path.many:
        raise table["path"].error(f"{path.text!r} must lead to repeated messages")
    inner = scope.within(path)
    name = value_of(table["name"], inner, ("string",))
    weight = value_of(table["value"], inner, ("number", "integer"))
    entries = getter(path)

    def read(message: Any) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for place, entry in enumerate(entries(message)):
            task = name.read(entry, {}) or ""
            if task in found:
                raise InvalidQuery(f"{path.text}[{place}]", f"{task!r} has come before; name each task once")
            found[task] = weight.read(entry, {}) or 0.0
        return found

    return read, path
