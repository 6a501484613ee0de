"""The schema of a surface: its name, the fields of its items and its tasks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from meshfold.model.errors import InvalidData

MAX_INPUT_LENGTH = 4096
MAX_ID_BYTES = 512
RESERVED_INPUTS = frozenset({"history", "history_vectors", "in_history", "query_vector"})
# Names that a filter's text cannot use.
RESERVED = frozenset({"true", "false", "null"})
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")


class FieldKind(StrEnum):
    """The kinds of fields. Any item may lack any field."""

    CATEGORY = "category"  # one string
    CATEGORIES = "categories"  # many strings
    INTEGER = "integer"  # one int64
    INTEGERS = "integers"  # many int64
    NUMBER = "number"  # one float64; NaN counts as missing
    TEXT = "text"  # one string shown to people, not filtered

    @property
    def many(self) -> bool:
        return self in (FieldKind.CATEGORIES, FieldKind.INTEGERS)

    @property
    def holds_strings(self) -> bool:
        return self in (FieldKind.CATEGORY, FieldKind.CATEGORIES)

    @property
    def ordered(self) -> bool:
        """Whether filters can have a range over the field."""
        return self in (FieldKind.INTEGER, FieldKind.NUMBER)


@dataclass(frozen=True)
class Field:
    name: str
    kind: FieldKind


class IdKind(StrEnum):
    """The kinds of item ids."""

    INTEGERS = "integers"  # int64
    STRINGS = "strings"  # 1 to MAX_ID_BYTES bytes of UTF-8


class InputKind(StrEnum):
    """The kinds of features that towers read."""

    INTS = "ints"
    FLOATS = "floats"
    STRINGS = "strings"  # each one a value
    TEXT = "text"  # split into words


@dataclass(frozen=True)
class Input:
    """A feature of requests that user towers read. length: limit of its values."""

    name: str
    kind: InputKind
    length: int


@dataclass(frozen=True)
class Schema:
    """The schema of a surface.

    surface: its name in requests. tasks: actions to predict, in the order of answers.
    inputs: features of requests that user towers read.
    exclude_history: whether items of the user's history are left out of the results.
    generated: whether the catalog is synthetic; displays of the surface say so. ids: kind of item ids.
    """

    surface: str
    fields: tuple[Field, ...]
    tasks: tuple[str, ...]
    exclude_history: bool = True
    generated: bool = False
    inputs: tuple[Input, ...] = ()
    ids: IdKind = IdKind.INTEGERS
    _by_name: dict[str, Field] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        _check_names("surface", [self.surface])
        _check_names("field", [f.name for f in self.fields])
        _check_names("task", self.tasks)
        _check_names("input", [i.name for i in self.inputs])
        for i in self.inputs:
            if not 1 <= i.length <= MAX_INPUT_LENGTH:
                raise InvalidData(f"input {i.name} must have length 1 to {MAX_INPUT_LENGTH}, got {i.length}")
            if i.name in RESERVED_INPUTS:
                raise InvalidData(f"input name {i.name!r} is an input of every tower already; choose another")
        if not self.tasks:
            raise InvalidData(f"surface {self.surface} has no task; name at least one under [tasks]")
        self._by_name.update((f.name, f) for f in self.fields)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Field:
        return self._by_name[name]

    @property
    def filterable(self) -> tuple[Field, ...]:
        """The fields with exact columns, in order; a filter program names a field by its place here."""
        return tuple(f for f in self.fields if f.kind is not FieldKind.TEXT)

    @property
    def shown(self) -> tuple[Field, ...]:
        return tuple(f for f in self.fields if f.kind is FieldKind.TEXT)

    def to_json(self) -> dict[str, Any]:
        return {
            "surface": self.surface,
            "fields": [{"name": f.name, "kind": f.kind.value} for f in self.fields],
            "tasks": list(self.tasks),
            "inputs": [{"name": i.name, "kind": i.kind.value, "length": i.length} for i in self.inputs],
            "exclude_history": self.exclude_history,
            "generated": self.generated,
            # Left out for integers, so that versions of older snapshots stay valid.
            **({"ids": self.ids.value} if self.ids is not IdKind.INTEGERS else {}),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError, ValueError or InvalidData where `raw` is not what to_json gives."""
        return cls(
            surface=raw["surface"],
            fields=tuple(Field(f["name"], FieldKind(f["kind"])) for f in raw["fields"]),
            tasks=tuple(raw["tasks"]),
            inputs=tuple(Input(i["name"], InputKind(i["kind"]), int(i["length"])) for i in raw["inputs"]),
            exclude_history=raw["exclude_history"],
            generated=raw["generated"],
            ids=IdKind(raw.get("ids", IdKind.INTEGERS.value)),
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean x?" for a known name that is close, else the list of known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names) if names else 'none'}"


def _check_names(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not NAME.match(name):
            raise InvalidData(
                f"{what} name {name!r} must be a letter or _ followed by at most 63 letters, digits or _"
            )
        if name in seen:
            raise InvalidData(f"{what} {name!r} is named twice")
        if name in RESERVED:
            raise InvalidData(f"{what} name {name!r} is a word of filter texts; choose another")
        seen.add(name)
