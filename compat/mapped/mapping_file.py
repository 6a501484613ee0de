"""The parts of a mapping file, each with its line for errors."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshfold.compat.mapped.errors import InvalidMapping, Misfit
from meshfold.compat.mapped.toml_lines import Key, line_at, lines_of
from meshfold.model.errors import InvalidConfig
from meshfold.model.schema import nearest

_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Part:
    """A value of a mapping file. key: its path in the file. raw: the value read by tomllib."""

    file: Path
    lines: Mapping[Key, int] = field(repr=False)
    key: Key
    raw: Any

    def error(self, message: str) -> InvalidMapping:
        name = ".".join(part if str(part).isidentifier() else f'"{part}"' for part in map(str, self.key))
        return InvalidMapping(self.file, line_at(self.lines, self.key), name or "the file", message)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Turns a Misfit raised in the block into an InvalidMapping at this part's place."""
        try:
            yield
        except Misfit as error:
            raise self.error(str(error)) from None

    def __contains__(self, name: str) -> bool:
        return isinstance(self.raw, dict) and name in self.raw

    def __getitem__(self, name: str | int) -> Part:
        return Part(self.file, self.lines, (*self.key, name), self.raw[name])

    def get(self, name: str) -> Part | None:
        is_there = name in self
        return self[name] if is_there else None

    def table(self, known: Collection[str] | None = None, needed: Collection[str] = ()) -> dict[str, Part]:
        """The parts of a table by name. known: allowed names; None for any. needed: required names. Raises
        InvalidMapping."""
        if not isinstance(self.raw, dict):
            raise self.error(f"must be a table, got {self.raw!r}")
        for name in self.raw:
            if known is not None and name not in known:
                raise self[name].error(f"is not known here{nearest(name, known)}")
        for name in needed:
            if name not in self.raw:
                raise self.error(f"{name} is missing")
        return {name: self[name] for name in self.raw}

    def entries(self) -> list[Part]:
        """The entries of a list, or the part itself. Raises InvalidMapping where the list is empty."""
        if not isinstance(self.raw, list):
            return [self]
        if not self.raw:
            raise self.error("is empty; name at least one, or leave it out")
        return [self[place] for place in range(len(self.raw))]

    def text(self) -> str:
        if not isinstance(self.raw, str) or not self.raw:
            raise self.error(f"must be a text, got {self.raw!r}")
        return self.raw

    def texts(self) -> tuple[str, ...]:
        return tuple(entry.text() for entry in self.entries())

    def flag(self) -> bool:
        if not isinstance(self.raw, bool):
            raise self.error(f"must be true or false, got {self.raw!r}")
        return self.raw

    def number(self) -> float:
        if isinstance(self.raw, bool) or not isinstance(self.raw, int | float):
            raise self.error(f"must be a number, got {self.raw!r}")
        return float(self.raw)

    def integer(self) -> int:
        if isinstance(self.raw, bool) or not isinstance(self.raw, int):
            raise self.error(f"must be a whole number, got {self.raw!r}")
        return self.raw

    def one_of(self, known: Collection[str]) -> str:
        text = self.text()
        if text not in known:
            raise self.error(f"{text!r} is not known here{nearest(text, known)}")
        return text


def read(file: Path) -> Part:
    """Reads a file. Raises InvalidConfig where it cannot be read or is invalid TOML."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidConfig(f"the mapping {file} cannot be read: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise InvalidConfig(f"the mapping {file} has more than {_MOST_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidConfig(f"{file} is not a TOML file: {error}") from None
    return Part(file, lines_of(text), (), raw)
