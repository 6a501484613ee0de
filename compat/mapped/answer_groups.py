"""Groups of columns that fill one field of an answer: keys of a map, or named entries of a repeated field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.columns import Column
from meshfold.compat.mapped.errors import Misfit
from meshfold.compat.mapped.paths import Path, Step, kind_of
from meshfold.compat.wire_values import is_map, is_repeated, is_required


@dataclass(frozen=True, eq=False)
class Held:
    """A column of a group. name: key or name of its entry. rest: steps within the entry."""

    name: Any
    path: Path
    rest: tuple[Step, ...]
    column: Column


def place_of(path: Path) -> tuple[str, int] | None:
    """Splits a path that names an entry: (path of the map or repeated field, index of its step)."""
    names: list[str] = []
    for place, step in enumerate(path.steps):
        names.append(step.field.name)
        if step.key is not None or step.where is not None:
            return ".".join(names), place
    return None


def name_of(step: Step) -> Any:
    return step.key if step.where is None else step.where[1]


def columns_of(text: str, place: int, held: Sequence[Held], asks: bool) -> dict[str, Column]:
    """The columns of one group, by path. asks: whether callers select entries by name. Raises Misfit."""
    step = held[0].path.steps[place]
    around = held[0].path.steps[:place]
    if any(inner.key is not None or inner.where is not None for each in held for inner in each.rest):
        raise Misfit(f"{text!r}: one key or name in a path; the answer has no entries within entries")
    depth = sum(each.fans_out for each in around)
    if step.key is not None:
        if depth > 1:
            raise Misfit(f"{text!r}: the map lies within {depth} repeated fields; at most one can be written")
        make = _of_results(held, step, asks) if depth else _of_answer(held, step, asks)
        return {text: Column(make)}
    if depth:
        raise Misfit(f"{text!r}: entries by name lie in no other repeated field")
    return _entries(text, held, asks)


def _is_asked(reply: Any, name: Any, asks: bool) -> bool:
    asked = reply.query.asked if asks else None
    return asked is None or str(name) in asked


def _of_answer(held: Sequence[Held], step: Step, asks: bool) -> Any:
    """The column of a map of the whole answer."""
    kind = _kind_of_values(step)

    def make(reply: Any) -> Any:
        found: dict[Any, Any] = {}
        for each in held:
            made = each.column.make(reply) if _is_asked(reply, each.name, asks) else None
            if made is not None:
                _put(found, each, made, kind)
        return found

    return make


def _of_results(held: Sequence[Held], step: Step, asks: bool) -> Any:
    """The column of a map in each result."""
    kind = _kind_of_values(step)

    def make(reply: Any) -> Any:
        wanted = [each for each in held if _is_asked(reply, each.name, asks)]
        if not wanted:
            return None
        rows: list[dict[Any, Any]] = [{} for _ in range(len(reply.candidates.item_ids))]
        for each in wanted:
            made = plain(each.column.make(reply))
            for row, value in zip(rows, made or (), strict=bool(made)):
                if value is not None and not (isinstance(value, list | tuple) and not value):
                    _put(row, each, value, kind)
        return rows

    return make


def _kind_of_values(step: Step) -> Any:
    value = step.field.message_type.fields_by_name["value"]
    return GetMessageClass(value.message_type) if kind_of(value) == "message" else None


def _put(found: dict[Any, Any], held: Held, made: Any, kind: Any) -> None:
    if kind is None:
        found[held.name] = made
        return
    message = found.get(held.name)
    if message is None:
        message = found[held.name] = kind()
    set_value(message, held.rest, made)


def _entries(text: str, held: Sequence[Held], asks: bool) -> dict[str, Column]:
    """The columns of a repeated field's entries, in the order in which the mapping first names them."""
    names = list(dict.fromkeys(each.name for each in held))
    step = next(step for step in held[0].path.steps if step.where is not None)
    assert step.where is not None
    by = step.where[0].name
    if any(each.path.steps[len(each.path.steps) - len(each.rest) - 1].where[0].name != by for each in held):  # type: ignore[index]
        raise Misfit(f"{text!r}: name all of its entries by one field, such as {by}")
    columns: dict[str, dict[Any, Held]] = {}
    for each in held:
        rest = ".".join(inner.field.name for inner in each.rest)
        if rest == by:
            raise Misfit(f"{each.path.text!r} is written by the brackets; leave it out")
        columns.setdefault(rest, {})[each.name] = each
    for rest, by_name in columns.items():
        one = next(iter(by_name.values()))
        if is_required(one.path.leaf) and len(by_name) < len(names):
            raise Misfit(
                f"{text}.{rest} is required; give it a source for each of {', '.join(map(str, names))}"
            )

    def named(reply: Any) -> Any:
        return [name for name in names if _is_asked(reply, name, asks)]

    found = {f"{text}.{by}": Column(named)}
    for rest, by_name in columns.items():
        found[f"{text}.{rest}"] = Column(_column(by_name, names, asks))
    return found


def _column(by_name: Mapping[Any, Held], names: Sequence[Any], asks: bool) -> Any:
    """The column of one field of all entries; an entry may lack it."""
    one = next(iter(by_name.values()))
    is_list = any(step.fans_out for step in one.rest)

    def make(reply: Any) -> Any:
        made = []
        for name in names:
            if not _is_asked(reply, name, asks):
                continue
            each = by_name.get(name)
            value = None if each is None else each.column.make(reply)
            made.append([] if value is None and is_list else value)
        arrays = [value for value in made if isinstance(value, np.ndarray)]
        if arrays:
            # An empty array, since flattening needs arrays in all places.
            empty = np.empty((0, *arrays[0].shape[1:]), arrays[0].dtype)
            made = [value if isinstance(value, np.ndarray) or value else empty for value in made]
        return made

    return make


def set_value(message: Any, steps: tuple[Step, ...], value: Any) -> None:
    """Sets the field at the end of the steps; fields of repeated messages one value each."""
    step, rest = steps[0], steps[1:]
    field = step.field
    if step.any_type is not None:
        packed = message.Extensions[field] if field.is_extension else getattr(message, field.name)
        inner = GetMessageClass(step.any_type)()
        if packed.type_url:
            packed.Unpack(inner)
        set_value(inner, rest, value)
        packed.Pack(inner)
        return
    held = message.Extensions[field] if field.is_extension else getattr(message, field.name)
    if rest and is_repeated(field) and not is_map(field):
        for place, each in enumerate(plain(value)):
            set_value(held[place] if place < len(held) else held.add(), rest, each)
    elif rest:
        set_value(held, rest, value)
    elif is_repeated(field):
        held.extend(plain(value))
    elif field.is_extension:
        message.Extensions[field] = plain(value)
    else:
        setattr(message, field.name, plain(value))


def plain(value: Any) -> Any:
    """Converts numpy values to Python's own, for generated message classes."""
    return value.tolist() if hasattr(value, "tolist") else value
