"""Explanations of an empty answer: the parts of a filter that no item matches, and values that items have."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from torch import Tensor, arange

from meshfold.kernels.filter.columns import values_at
from meshfold.model.data.catalog import number_keys, numbers_of_keys
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.filter.program import bounds_of
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.types import Int64s

# Values read at a time, values named in a note, characters shown of each, notes on a filter.
_CHUNK, _NAMED, _CHARACTERS, _NOTES = 1 << 20, 3, 60, 8
# Limits of the search for nearest words, which keep it at about 20 ms: values of a filter, words of a vocabulary read
# for each, words with the same first letter that difflib compares, and other words that it compares.
_LOOKUPS, _WORDS_READ, _COMPARED_FIRST, _COMPARED = 5, 20_000, 150, 50
_WORDS_LISTED = 8


class UnmatchedParts:
    """Explains filters of one snapshot."""

    def __init__(
        self,
        schema: Schema,
        codes: Mapping[str, Mapping[str, int]],
        signature: Tensor,
        columns: Sequence[Tensor],
        offsets: Sequence[Tensor],
        items: int,
    ) -> None:
        """codes: for each field of categories, the code of each string. items: number of items.

        signature, columns, offsets: of the filterable fields (kernels/filter/columns.py).
        """
        self._schema = schema
        self._codes = codes
        self._signature, self._columns, self._offsets = signature, columns, offsets
        self._items = items
        self._places = {f.name: place for place, f in enumerate(schema.filterable)}
        self._bounds: dict[int, tuple[int, int] | None] = {}

    def of(self, expression: Expression, is_empty: bool) -> dict[str, str]:
        """Explanations by the paths of parts that no item matches. expression: a filter that compiles.

        is_empty: whether no item passes the whole filter. Parts with numbers are checked in that case alone, because
        the check reads whole columns.
        """
        notes: dict[str, str] = {}
        lookups = iter(range(_LOOKUPS))
        stack: list[tuple[Expression, str, bool]] = [(expression, "filter", False)]
        while stack and len(notes) < _NOTES:
            node, path, negated = stack.pop()
            match node:
                case Match():
                    _note(notes, f"{path}.match", self._match(node, is_empty and not negated, lookups))
                case Range() if is_empty and not negated:
                    _note(notes, f"{path}.range", self._range(node))
                case Exists() if is_empty and not negated:
                    if self._bounds_of(self._places[node.field]) is None:
                        notes[f"{path}.exists"] = f"no item has {node.field}"
                case Not():
                    stack.append((node.filter, f"{path}.not", not negated))
                case All() | Any() | AtLeast():
                    kind = {All: "all", Any: "any", AtLeast: "at_least"}[type(node)]
                    inner = [(f, f"{path}.{kind}.filters[{i}]", negated) for i, f in enumerate(node.filters)]
                    stack.extend(reversed(inner))
        if is_empty and not notes:
            notes["filter"] = "no item passes all of it, though items pass each of its parts"
        return notes

    def _match(self, node: Match, numbers: bool, lookups: Iterator[int]) -> str:
        field = self._schema[node.field]
        if field.kind.holds_strings:
            codes = self._codes[field.name]
            unknown = [value for value in dict.fromkeys(node.strings) if value not in codes]
            return _strings_note(field.name, unknown, codes, lookups) if unknown else ""
        if not numbers:
            return ""
        requested = np.array(sorted(set(node.ints)), np.int64)
        keys = number_keys(requested.astype(np.float64)) if field.kind is FieldKind.NUMBER else requested
        place = self._places[field.name]
        if any(np.isin(keys, part).any() for part in self._values(place)):
            return ""
        named = " or ".join(map(str, requested[:_NAMED].tolist()))
        more = f" or {len(requested) - _NAMED} more" if len(requested) > _NAMED else ""
        return f"no item has {named}{more} in {field.name}{self._bounds_text(field, place)}"

    def _range(self, node: Range) -> str:
        field, place = self._schema[node.field], self._places[node.field]
        low, high = bounds_of(node, field.kind)
        if any(((part >= low) & (part <= high)).any() for part in self._values(place)):
            return ""
        return f"no item lies in this range of {field.name}{self._bounds_text(field, place)}"

    def _bounds_text(self, field: Field, place: int) -> str:
        bounds = self._bounds_of(place)
        if bounds is None:
            return ", which no item has"
        if field.kind is FieldKind.NUMBER:
            low, high = numbers_of_keys(np.array(bounds, np.int64)).tolist()
            return f", whose values lie between {low:g} and {high:g}"
        return f", whose values lie between {bounds[0]} and {bounds[1]}"

    def _values(self, place: int) -> Iterator[Int64s]:
        """Yields all values of items in a field, in chunks."""
        column, offsets = self._columns[place], self._offsets[place]
        if offsets.numel():
            for start in range(0, column.numel(), _CHUNK):
                yield column[start : start + _CHUNK].long().numpy()
            return
        for start in range(0, self._items, _CHUNK):
            positions = arange(start, min(start + _CHUNK, self._items))
            yield values_at(self._signature, column, offsets, place, positions)[1].numpy()

    def _bounds_of(self, place: int) -> tuple[int, int] | None:
        """The smallest and the largest value of a field; None where no item has it."""
        if place not in self._bounds:
            ends = [(int(part.min()), int(part.max())) for part in self._values(place) if len(part)]
            self._bounds[place] = (min(a for a, _ in ends), max(b for _, b in ends)) if ends else None
        return self._bounds[place]


def _note(notes: dict[str, str], path: str, text: str) -> None:
    if text:
        notes[path] = text


def _strings_note(field: str, unknown: list[str], known: Mapping[str, object], lookups: Iterator[int]) -> str:
    """The explanation of unknown strings. lookups: an iterator with one element for each lookup that is left."""
    named = unknown[:_NAMED]
    more = f" or {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
    note = f"no item has {' or '.join(map(_quoted, named))}{more} in {field}"
    # zip reads `named` first, so that no lookup is used up after the last value.
    found = [nearest_word(value, known) for value, _ in zip(named, lookups, strict=False)]
    close = [word for word in found if word is not None]
    if close:
        return f"{note}; did you mean {', '.join(map(_quoted, dict.fromkeys(close)))}?"
    words = list(islice(known, _WORDS_LISTED + 1))
    if len(words) > _WORDS_LISTED:
        return note
    return f"{note}; items have {', '.join(map(_quoted, words)) or 'none at all'}"


def nearest_word(value: str, words: Mapping[str, object]) -> str | None:
    """The word that differs in case and surrounding spaces alone, else difflib's nearest word, or None.

    Usual spellings are looked up directly, because no more than _WORDS_READ words are compared.
    """
    plain = value.strip()
    for written in (plain, plain.lower(), plain.upper(), plain.capitalize(), plain.title()):
        if written in words:
            return written
    folded = plain.casefold()
    first: dict[str, str] = {}
    others: dict[str, str] = {}
    longest = max(2, len(folded) // 3)
    for word in islice(words, _WORDS_READ):
        other = word.casefold().strip()
        if other == folded:
            return word
        if abs(len(other) - len(folded)) <= longest:
            alike, most = (first, _COMPARED_FIRST) if other[:1] == folded[:1] else (others, _COMPARED)
            if len(alike) < most:
                alike.setdefault(other, word)
    close = difflib.get_close_matches(folded, [*first, *others], n=1)
    return (first | others)[close[0]] if close else None


def _quoted(value: str) -> str:
    short = value if len(value) <= _CHARACTERS else value[: _CHARACTERS - 3] + "..."
    return f'"{short}"'
