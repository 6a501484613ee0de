"""Encodes one message of an answer: columns by the wire template, other fields by protobuf."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat import wire_template
from meshfold.compat.mapped.answer_groups import Held, columns_of, name_of, place_of, set_value
from meshfold.compat.mapped.columns import Column
from meshfold.compat.mapped.conversions import Target
from meshfold.compat.mapped.errors import Misfit
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paths import Path
from meshfold.compat.wire_values import is_map, is_repeated


class Level:
    """Encodes one message. add() collects columns, then finish() compiles them."""

    def __init__(self, message: Descriptor) -> None:
        self.message = message
        self._columns: dict[str, Column] = {}
        self._set_after: list[tuple[Path, Column]] = []
        self._groups: dict[str, tuple[Part, int, list[Held]]] = {}
        self._lengths: dict[str, tuple[str, str]] = {}
        self._oneofs: dict[tuple[str, str], tuple[str, str]] = {}

    def target(self, path: Path, only: str) -> Target:
        """The target field of a path. only: the kind of ids for which the field is. Raises Misfit."""
        found = _target(path)
        _check_oneofs(path, only, self._oneofs)
        return found

    def add(self, entry: Part, path: Path, target: Target, column: Column) -> None:
        """Adds a column. entry: the mapping's line, for errors. Raises InvalidMapping."""
        with entry.located():
            _check_lengths(path, column.length, self._lengths)
            if any(step.field.is_extension or step.any_type for step in path.steps):
                if target.dimensions:
                    raise Misfit(f"{path.text!r}: an extension or an Any holds one value here, no list")
                self._set_after.append((path, column))
            elif (place := place_of(path)) is not None:
                text, step = place
                held = Held(name_of(path.steps[step]), path, path.steps[step + 1 :], column)
                self._groups.setdefault(text, (entry, step, []))[2].append(held)
            else:
                self.put(path.text, column)

    def put(self, text: str, column: Column) -> None:
        """Adds a column to the template. Raises Misfit."""
        if text in self._columns:
            raise Misfit(f"{text} is mapped in two ways; leave one out")
        self._columns[text] = column

    @property
    def names(self) -> set[str]:
        """The names of entries and keys in the paths."""
        return {str(each.name) for _, _, held in self._groups.values() for each in held}

    def finish(self, part: Part, asks: bool) -> None:
        """Compiles the columns. asks: whether callers select entries by name. Raises InvalidMapping."""
        for text, (entry, step, held) in self._groups.items():
            with entry.located():
                for name, column in columns_of(text, step, held, asks).items():
                    self.put(name, column)
        # The prefix "=" cannot begin a path.
        sources = {text: f"={column.key}" if column.key else text for text, column in self._columns.items()}
        self._makes = {sources[text]: column.make for text, column in self._columns.items()}
        self._kind = GetMessageClass(self.message)
        try:
            self._template = wire_template.compile(self.message, sources)
        except ValueError as error:
            raise part.error(str(error)) from None

    @property
    def is_empty(self) -> bool:
        return not (self._columns or self._set_after or self._groups)

    def encode(self, reply: Any) -> bytes:
        message = b""
        if self._columns:
            message = self._template.encode({name: make(reply) for name, make in self._makes.items()})
        if not self._set_after:
            return message
        more = self._kind()
        for path, column in self._set_after:
            value = column.make(reply)
            if value is not None:
                set_value(more, path.steps, value)
        last: bytes = more.SerializePartialToString(deterministic=True)
        return message + last


def _target(path: Path) -> Target:
    """The target of a path. Raises Misfit for a path to which nothing can be written."""
    for step in path.steps:
        if step.index is not None:
            raise Misfit(
                f'{path.text!r}: entries of an answer are named, such as {step.field.name}[name="x"]'
            )
        if step.field.type == FieldDescriptor.TYPE_GROUP:
            raise Misfit(f"{path.text!r}: {step.field.full_name} is a group, which is not written")
    last = path.steps[-1]
    is_whole_map = is_map(last.field) and last.key is None
    dimensions = sum(step.fans_out and not is_map(step.field) for step in path.steps)
    if path.kind == "message":
        raise Misfit(f"{path.text!r} is a message; name a field of it")
    return Target(path.text, path.leaf, path.kind, dimensions, is_whole_map, is_repeated(path.leaf))


def _check_oneofs(path: Path, only: str, seen: dict[tuple[str, str], tuple[str, str]]) -> None:
    """Raises Misfit where two fields of a oneof are mapped, unless each is for ids of its own kind."""
    prefix = ""
    for step in path.steps:
        oneof = step.field.containing_oneof
        if oneof is not None:
            key = (prefix, oneof.full_name)
            before, kind = seen.setdefault(key, (step.field.name, only))
            if before != step.field.name and not (only and kind and only != kind):
                raise Misfit(
                    f"{path.text!r}: {before} and {step.field.name} are of one oneof; map one of them"
                )
        prefix += f".{step.field.name}[{step.key}{step.where and step.where[1]}]"


def _check_lengths(path: Path, length: str, seen: dict[str, tuple[str, str]]) -> None:
    """Raises Misfit where two columns would give a repeated field different lengths."""
    if not length:
        return
    prefix = ""
    for step in path.steps:
        prefix += f".{step.field.name}[{step.key}{step.where and step.where[1]}]"
        if step.fans_out and not is_map(step.field):
            before, by = seen.setdefault(prefix, (length, path.text))
            if before != length:
                raise Misfit(f"{path.text!r} has an entry for each {length}, and {by!r} for each {before}")
            return
