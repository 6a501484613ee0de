"""Finds the line of each key of a TOML text, which tomllib does not report."""

from __future__ import annotations

import re
from collections.abc import Mapping

Key = tuple[str | int, ...]

_PART = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")
_STRINGS = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|' r"'''.*?'''|" r'"(?:[^"\\\n]|\\.)*"|' r"'[^'\n]*'|" r"\#[^\n]*", re.DOTALL
)


def lines_of(text: str) -> Mapping[Key, int]:
    """Lines from 1, by key. text: valid TOML. Entries of arrays of tables are numbered from 0."""
    found: dict[Key, int] = {}
    # Strings and comments are blanked, since they may contain brackets and equal signs.
    blank = _STRINGS.sub(_blanked, text)
    places: dict[Key, int] = {}
    table: Key = ()
    depth = 0
    for number, (line, bare) in enumerate(zip(text.split("\n"), blank.split("\n"), strict=True), 1):
        if depth == 0 and bare.lstrip().startswith("["):
            name = line[line.index("[") :]
            is_array = name.startswith("[[")
            table = _within(_parts(name.lstrip("[")), places)
            if is_array:
                places[table] = places.get(table, -1) + 1
                table = (*table, places[table])
            found.setdefault(table, number)
        elif "=" in bare:
            inline = depth > 0
            start = len(line) - len(line.lstrip())
            if not inline or re.match(r"\s*(\w[\w-]*|\"\s*\"|'\s*')\s*=", bare):
                key = (*table, *_parts(line[start:]))
                found.setdefault(key, number)
        depth += sum(bare.count(bracket) for bracket in "[{") - sum(bare.count(bracket) for bracket in "]}")
    return found


def line_at(lines: Mapping[Key, int], key: Key) -> int:
    """The line of a key, or of the nearest table around it."""
    for length in range(len(key), 0, -1):
        if key[:length] in lines:
            return lines[key[:length]]
    return 1


def _blanked(match: re.Match[str]) -> str:
    whole = match[0]
    quote = "" if whole.startswith("#") else whole[0]
    inner = "".join("\n" if character == "\n" else " " for character in whole)
    return quote + inner[1:-1] + quote if quote else inner


def _parts(text: str) -> Key:
    """The parts of a dotted key at the start of a text."""
    parts: list[str | int] = []
    place = 0
    while match := _PART.match(text, place):
        basic, literal, bare = match.groups()
        if basic is not None:
            parts.append(re.sub(r"\\(.)", r"\1", basic))
        else:
            parts.append(literal if literal is not None else bare)
        place = match.end()
        if text[place : place + 1] != ".":
            break
        place += 1
    return tuple(parts)


def _within(name: Key, places: Mapping[Key, int]) -> Key:
    """The key of a table whose name passes through arrays of tables, which stand for their last entries."""
    key: Key = ()
    for part in name[:-1]:
        key = (*key, part)
        if key in places:
            key = (*key, places[key])
    return (*key, *name[-1:])
