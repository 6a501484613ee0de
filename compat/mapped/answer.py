"""Candidates as a caller's answer: each field of it a column, by functions compiled when the mapping is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat import wire_template
from meshfold.compat.mapped.codecs import Codec
from meshfold.compat.mapped.columns import Column, column_of
from meshfold.compat.mapped.conversions import Target
from meshfold.compat.mapped.descriptors import Protocol
from meshfold.compat.mapped.errors import Misfit
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paging import next_token
from meshfold.compat.mapped.paths import Path, Step, kind_of, resolve
from meshfold.compat.mapped.request import MappedQuery, Request
from meshfold.compat.mapped.shown import Shown, shown_of
from meshfold.compat.mapped.values import value_of
from meshfold.compat.wire_values import is_map, is_repeated
from meshfold.model.types import Candidates, FieldValues

_KINDS = ("string", "integer", "number", "bool")


@dataclass(frozen=True, eq=False)
class Reply:
    """What columns are made of. candidates: those of the page. named: the caller's name of a part of the query.
    next_token: of the page after this one."""

    query: MappedQuery
    candidates: Candidates
    named: Callable[[str], str]
    next_token: str = ""


class Answer:
    """Encodes answers of one method. shown: what each field of an answer shows, in the order of the mapping."""

    def __init__(
        self, part: Part, message: Descriptor, protocol: Protocol, request: Request, codec: Codec | None
    ) -> None:
        """part: the table of the mapping. Raises InvalidMapping."""
        self._paging = request.paging
        self._named = request.path
        self._columns: dict[str, Column] = {}
        self._set_after: list[tuple[Path, Column]] = []
        in_maps: dict[str, list[tuple[Path, Column]]] = {}
        fields: list[str] = []
        lengths: dict[str, tuple[str, str]] = {}
        oneofs: dict[tuple[str, str], str] = {}
        shown: list[Shown] = []
        for text, entry in part.table().items():
            with entry.told():
                path = resolve(text, message, protocol)
                target = _target(path)
                _check_oneofs(path, oneofs)
            column = self._column(entry, target, request, codec)
            shown.append(shown_of(entry, path, codec))
            if column.field and column.field not in fields:
                fields.append(column.field)
            with entry.told():
                _check_lengths(path, column.length, lengths)
            if any(step.field.is_extension or step.any_type for step in path.steps):
                if target.dimensions:
                    raise entry.error(f"{text!r}: an extension or an Any holds one value here, no list")
                self._set_after.append((path, column))
            elif (place := _map_place(path)) is not None:
                in_maps.setdefault(place, []).append((path, column))
            else:
                self._columns[text] = column
        for place, held in in_maps.items():
            if place in self._columns:
                raise part[held[0][0].text].error(f"{place} is mapped as a whole, too; leave one out")
            self._columns[place] = _map_column(held)
        if not self._columns and not self._set_after:
            raise part.error("is empty; map at least one field of the answer")
        request.shown = tuple(fields)
        self.shown = tuple(shown)
        try:
            self._template = wire_template.compile(
                message, {text: column.key or text for text, column in self._columns.items()}
            )
        except ValueError as error:
            raise part.error(str(error)) from None
        self._makes = {column.key or text: column.make for text, column in self._columns.items()}
        self._kind = GetMessageClass(message)

    def _column(self, entry: Part, target: Target, request: Request, codec: Codec | None) -> Column:
        if "echo" not in entry:
            return column_of(entry, target, codec)
        entry.table({"echo", "enum", "default"})
        value = value_of(entry["echo"], request.scope, _KINDS)
        name = entry.raw["echo"] if isinstance(entry.raw["echo"], str) else value.name
        request.echoes[name] = value
        return column_of(entry, target, codec, echo=(name, value.kind))

    def encode(self, query: MappedQuery, candidates: Candidates) -> bytes:
        """The answer's bytes. Raises Unprepared where the catalog is none that the mapping fits."""
        reply = Reply(query, candidates, self._named)
        if self._paging is not None and query.page is not None:
            page = query.page
            candidates = part_of(candidates, page.first, page.first + page.wanted)
            token = next_token(page, candidates.item_ids) if self._paging.token is not None else ""
            reply = Reply(query, candidates, self._named, token)
        message = b""
        if self._columns:
            message = self._template.encode({name: make(reply) for name, make in self._makes.items()})
        if not self._set_after:
            return message
        more = self._kind()
        for path, column in self._set_after:
            value = column.make(reply)
            if value is not None:
                _set(more, path.steps, value)
        last: bytes = more.SerializePartialToString(deterministic=True)
        return message + last


def part_of(candidates: Candidates, first: int, end: int) -> Candidates:
    """The candidates from one place to another."""
    if first == 0 and end >= len(candidates.item_ids):
        return candidates
    fields = {}
    for name, field in candidates.fields.items():
        start = int(field.lengths[:first].sum())
        stop = start + int(field.lengths[first:end].sum())
        fields[name] = FieldValues(field.lengths[first:end], field.values[start:stop])
    return replace(
        candidates,
        item_ids=candidates.item_ids[first:end],
        values=candidates.values[first:end],
        similarities=candidates.similarities[first:end],
        task_scores=candidates.task_scores[first:end],
        fields=fields,
    )


def _target(path: Path) -> Target:
    """Raises Misfit for a path that no answer can be written to."""
    for step in path.steps:
        if step.index is not None or step.where is not None:
            raise Misfit(f"{path.text!r}: an answer has no entries to choose from; name the field alone")
        if step.field.type == FieldDescriptor.TYPE_GROUP:
            raise Misfit(f"{path.text!r}: {step.field.full_name} is a group, which is not written")
    last = path.steps[-1]
    is_whole_map = is_map(last.field) and last.key is None
    dimensions = sum(step.fans_out and not is_map(step.field) for step in path.steps)
    if path.kind == "message":
        raise Misfit(f"{path.text!r} is a message; name a field of it")
    return Target(path.text, path.leaf, path.kind, dimensions, is_whole_map, is_repeated(path.leaf))


def _check_oneofs(path: Path, seen: dict[tuple[str, str], str]) -> None:
    """Raises Misfit where two fields of a oneof are mapped."""
    prefix = ""
    for step in path.steps:
        oneof = step.field.containing_oneof
        if oneof is not None:
            key = (prefix, oneof.full_name)
            before = seen.setdefault(key, step.field.name)
            if before != step.field.name:
                raise Misfit(
                    f"{path.text!r}: {before} and {step.field.name} are of one oneof; map one of them"
                )
        prefix += f".{step.field.name}[{step.key}]"


def _check_lengths(path: Path, length: str, seen: dict[str, tuple[str, str]]) -> None:
    """Raises Misfit where the messages of a repeated field would be as many as two unlike things are."""
    if not length:
        return
    prefix = ""
    for step in path.steps:
        prefix += f".{step.field.name}"
        if step.fans_out and not is_map(step.field):
            before, by = seen.setdefault(prefix, (length, path.text))
            if before != length:
                raise Misfit(f"{path.text!r} has an entry for each {length}, and {by!r} for each {before}")
            return


def _map_place(path: Path) -> str | None:
    """The path of the map that a path names a key of."""
    names: list[str] = []
    for step in path.steps:
        names.append(step.field.name)
        if step.key is not None:
            return ".".join(names)
    return None


def _map_column(held: list[tuple[Path, Column]]) -> Column:
    """A map whose entries are columns of their own."""
    place = next(i for i, step in enumerate(held[0][0].steps) if step.key is not None)
    if any(step.fans_out for step in held[0][0].steps[:place]):
        raise ValueError("a map in a repeated message")
    value = held[0][0].steps[place].field.message_type.fields_by_name["value"]
    kind = GetMessageClass(value.message_type) if kind_of(value) == "message" else None
    entries = [(path.steps[place].key, path.steps[place + 1 :], column) for path, column in held]

    def make(reply: Any) -> Any:
        found: dict[Any, Any] = {}
        for key, rest, column in entries:
            made = column.make(reply)
            if kind is None:
                found[key] = made
            elif made is not None:
                _set(found.setdefault(key, kind()), rest, made)
        return {key: made for key, made in found.items() if made is not None}

    return Column(make)


def _set(message: Any, steps: tuple[Step, ...], value: Any) -> None:
    """Sets the field behind the steps."""
    step, rest = steps[0], steps[1:]
    field = step.field
    if step.any_type is not None:
        packed = message.Extensions[field] if field.is_extension else getattr(message, field.name)
        inner = GetMessageClass(step.any_type)()
        if packed.type_url:
            packed.Unpack(inner)
        _set(inner, rest, value)
        packed.Pack(inner)
    elif rest:
        _set(message.Extensions[field] if field.is_extension else getattr(message, field.name), rest, value)
    elif field.is_extension:
        if is_repeated(field):
            message.Extensions[field].extend(_plain(value))
        else:
            message.Extensions[field] = _plain(value)
    elif is_repeated(field):
        getattr(message, field.name).extend(_plain(value))
    else:
        setattr(message, field.name, _plain(value))


def _plain(value: Any) -> Any:
    """Numpy's values as Python's own, which generated classes take."""
    return value.tolist() if hasattr(value, "tolist") else value
