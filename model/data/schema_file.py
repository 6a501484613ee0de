"""The schema file (TOML), which describes a catalog's tables: its reader and checks."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from meshfold.model.data.joins import UNKNOWN_SHARE
from meshfold.model.errors import InvalidData, InvalidQuery
from meshfold.model.filter.expression import Expression
from meshfold.model.filter.text import parse_filter
from meshfold.model.schema import Field, FieldKind, IdKind, Input, InputKind, Schema, nearest
from meshfold.model.value.config import ValueConfig, value_config

MAX_BYTES = 1 << 20
T = TypeVar("T")


@dataclass(frozen=True)
class ItemsTable:
    """The table of items. source: a file or folder. vector, popularity: columns, "" where there is none.

    ids: kind of the ids; None takes it from the column.
    """

    source: Path
    id: str
    vector: str
    popularity: str
    ids: IdKind | None = None


@dataclass(frozen=True)
class FieldColumn:
    """The column of a field. separator: the text between values of a cell; None for single values and lists."""

    field: Field
    column: str
    separator: str | None


@dataclass(frozen=True)
class InteractionsTable:
    """The table of interactions. unknown_share: limit of the share of interactions with unknown items."""

    source: Path
    user: str
    item: str
    time: str
    unknown_share: float = UNKNOWN_SHARE


@dataclass(frozen=True)
class SchemaFile:
    """A checked schema file.

    tasks: for each task a filter over the columns of interactions; None counts all. value: None where the file declares
    neither formulas nor weights.
    """

    path: Path
    schema: Schema
    items: ItemsTable
    fields: tuple[FieldColumn, ...]
    interactions: InteractionsTable | None
    tasks: Mapping[str, Expression | None]
    value: ValueConfig | None

    @classmethod
    def read(cls, path: Path) -> SchemaFile:
        """Reads and checks the file. Raises InvalidData that names the file and the bad key."""
        try:
            with path.open("rb") as file:
                text = file.read(MAX_BYTES + 1)
            if len(text) > MAX_BYTES:
                raise InvalidData(f"{path}: a schema file has at most {MAX_BYTES} bytes")
            # Notepad begins UTF-8 with a byte order mark.
            raw = tomllib.loads(text.decode("utf-8-sig"))
        except OSError as fault:
            raise InvalidData(f"{path}: cannot be read: {fault.strerror}") from fault
        except UnicodeDecodeError as fault:
            raise InvalidData(
                f"{path}: is not TOML, which is UTF-8: {fault}; save the file as UTF-8"
            ) from fault
        except tomllib.TOMLDecodeError as fault:
            raise InvalidData(f"{path}: is not TOML: {fault}") from fault
        try:
            return _schema_file(path, raw)
        except InvalidData as fault:
            raise InvalidData(f"{path}: {fault}") from fault


def _schema_file(path: Path, raw: Mapping[str, Any]) -> SchemaFile:
    top = _Keys(
        "",
        raw,
        (
            "surface",
            "exclude_history",
            "generated",
            "items",
            "fields",
            "inputs",
            "interactions",
            "tasks",
            "weights",
            "formulas",
        ),
    )
    fields = tuple(_field(name, keys) for name, keys in top.tables("fields"))
    tasks = {name: _where(name, keys) for name, keys in top.tables("tasks")}
    schema = Schema(
        surface=top.text("surface"),
        fields=tuple(f.field for f in fields),
        tasks=tuple(tasks),
        exclude_history=top.truth("exclude_history", True),
        generated=top.truth("generated", False),
        inputs=tuple(_input(name, keys) for name, keys in top.tables("inputs")),
    )
    items = top.table("items", ("source", "id", "vector", "popularity", "ids"))
    interactions = None
    if "interactions" in raw:
        given = top.table("interactions", ("source", "user", "item", "time", "unknown_share"))
        interactions = InteractionsTable(
            path.parent / given.text("source"),
            given.text("user"),
            given.text("item"),
            given.text("time"),
            given.share("unknown_share", UNKNOWN_SHARE),
        )
    elif any(tasks.values()):
        raise InvalidData("a task has a where but there is no [interactions]; name their source or drop it")
    return SchemaFile(
        path=path,
        schema=schema,
        items=ItemsTable(
            path.parent / items.text("source"),
            items.text("id"),
            items.text("vector", ""),
            items.text("popularity", ""),
            _ids(items.text("ids", "")),
        ),
        fields=fields,
        interactions=interactions,
        tasks=tasks,
        value=_value(top),
    )


def _ids(given: str) -> IdKind | None:
    kinds = [kind.value for kind in IdKind]
    if given and given not in kinds:
        raise InvalidData(f"items.ids is {given!r}, expected one of {', '.join(kinds)}")
    return IdKind(given) if given else None


def _value(top: _Keys) -> ValueConfig | None:
    formulas, weights = top.raw_table("formulas"), top.raw_table("weights")
    return value_config(formulas, weights) if formulas or weights else None


def _field(name: str, raw: Mapping[str, Any]) -> FieldColumn:
    keys = _Keys(f"fields.{name}", raw, ("kind", "column", "separator"))
    given = keys.text("kind")
    kinds = [kind.value for kind in FieldKind]
    if given not in kinds:
        raise InvalidData(f"fields.{name}.kind is {given!r}, expected one of {', '.join(kinds)}")
    kind = FieldKind(given)
    separator = keys.text("separator", "") or None
    if separator is not None and not kind.many:
        many = " or ".join(kind.value for kind in FieldKind if kind.many)
        raise InvalidData(
            f"fields.{name}.separator has no meaning for kind {kind}, which holds one value; drop it, or set kind to"
            f" {many}"
        )
    return FieldColumn(Field(name, kind), keys.text("column", name), separator)


def _input(name: str, raw: Mapping[str, Any]) -> Input:
    keys = _Keys(f"inputs.{name}", raw, ("kind", "length"))
    given = keys.text("kind")
    kinds = [kind.value for kind in InputKind]
    if given not in kinds:
        raise InvalidData(f"inputs.{name}.kind is {given!r}, expected one of {', '.join(kinds)}")
    return Input(name, InputKind(given), keys.whole("length", 1))


def _where(name: str, raw: Mapping[str, Any]) -> Expression | None:
    text = _Keys(f"tasks.{name}", raw, ("where",)).text("where", "")
    if not text:
        return None
    try:
        return parse_filter(text)
    except InvalidQuery as fault:
        raise InvalidData(f"tasks.{name}.where: {fault}") from fault


class _Keys:
    """A table of the file with typed access. Raises InvalidData for unknown keys and for values of another type."""

    def __init__(self, path: str, raw: Mapping[str, Any], known: Iterable[str]) -> None:
        self._path, self._raw = path, raw
        for key in raw:
            if key not in known:
                raise InvalidData(f"{self._name(key)} is no key of a schema file{nearest(key, known)}")

    def text(self, key: str, default: str | None = None) -> str:
        return self._get(key, str, "a string", default)

    def whole(self, key: str, default: int) -> int:
        return self._get(key, int, "a whole number", default)

    def share(self, key: str, default: float) -> float:
        value = self._raw.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InvalidData(f"{self._name(key)} must be a number from 0 to 1, got {value!r}")
        return float(value)

    def truth(self, key: str, default: bool) -> bool:
        return self._get(key, bool, "true or false", default)

    def table(self, key: str, known: Iterable[str]) -> _Keys:
        return _Keys(self._name(key), self._get(key, dict, "a table", None), known)

    def raw_table(self, key: str) -> Mapping[str, Any]:
        """The contents of a table, unchecked; empty where the table is missing."""
        return self._get(key, dict, "a table", {})

    def tables(self, key: str) -> list[tuple[str, Mapping[str, Any]]]:
        raw: Mapping[str, Any] = self._get(key, dict, "a table", {})
        for name, value in raw.items():
            if not isinstance(value, dict):
                raise InvalidData(f"{key}.{name} must be a table, got {value!r}; write [{key}.{name}]")
        return list(raw.items())

    def _get(self, key: str, kind: type[T], expected: str, default: T | None) -> T:
        value = self._raw.get(key, default)
        if value is None:
            raise InvalidData(f"{self._name(key)} is missing; set it to {expected}")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InvalidData(f"{self._name(key)} must be {expected}, got {value!r}")
        return value

    def _name(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key
