"""Parts of a filter that no item matches, told with what items hold: for people who wonder about an empty answer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from torch import Tensor, arange

from meshfold.kernels.columns import values_at
from meshfold.model.data.catalog import number_keys, numbers_of_keys
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.filter.program import bounds_of
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.types import Int64s

# Values read at a time, values named in a note, characters shown of each, notes on a filter.
_CHUNK, _NAMED, _CHARACTERS, _NOTES = 1 << 20, 3, 60, 8
# Words of a vocabulary that are read, and compared by difflib, for each value; and words that are listed at most.
_WORDS_READ, _WORDS_COMPARED, _WORDS_LISTED = 100_000, 1_000, 8


class UnmatchedParts:
    """Of the filters of one snapshot."""

    def __init__(
        self,
        schema: Schema,
        codes: Mapping[str, Mapping[str, int]],
        signature: Tensor,
        columns: Sequence[Tensor],
        offsets: Sequence[Tensor],
        items: int,
    ) -> None:
        """codes: of the strings of each field of categories. signature, columns, offsets: as kernels/columns.py reads
        them, of each filterable field. items: how many there are."""
        self._schema = schema
        self._codes = codes
        self._signature, self._columns, self._offsets = signature, columns, offsets
        self._items = items
        self._places = {f.name: place for place, f in enumerate(schema.filterable)}
        self._bounds: dict[int, tuple[int, int] | None] = {}

    def of(self, expression: Expression, is_empty: bool) -> dict[str, str]:
        """Texts by the paths of parts that no item matches. is_empty: whether no item passes the filter; then numbers
        are looked at, too, which reads the columns of their fields. Expects a filter that compiles."""
        notes: dict[str, str] = {}
        stack: list[tuple[Expression, str, bool]] = [(expression, "filter", False)]
        while stack and len(notes) < _NOTES:
            node, path, negated = stack.pop()
            match node:
                case Match():
                    _note(notes, f"{path}.match", self._match(node, is_empty and not negated))
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

    def _match(self, node: Match, numbers: bool) -> str:
        field = self._schema[node.field]
        if field.kind.holds_strings:
            codes = self._codes[field.name]
            unknown = [value for value in dict.fromkeys(node.strings) if value not in codes]
            return _strings_note(field.name, unknown, codes) if unknown else ""
        if not numbers:
            return ""
        wanted = np.array(sorted(set(node.ints)), np.int64)
        keys = number_keys(wanted.astype(np.float64)) if field.kind is FieldKind.NUMBER else wanted
        place = self._places[field.name]
        if any(np.isin(keys, part).any() for part in self._values(place)):
            return ""
        named = " or ".join(map(str, wanted[:_NAMED].tolist()))
        more = f" or {len(wanted) - _NAMED} more" if len(wanted) > _NAMED else ""
        return f"no item has {named}{more} in {field.name}{self._told(field, place)}"

    def _range(self, node: Range) -> str:
        field, place = self._schema[node.field], self._places[node.field]
        low, high = bounds_of(node, field.kind)
        if any(((part >= low) & (part <= high)).any() for part in self._values(place)):
            return ""
        return f"no item lies in this range of {field.name}{self._told(field, place)}"

    def _told(self, field: Field, place: int) -> str:
        bounds = self._bounds_of(place)
        if bounds is None:
            return ", which no item has"
        if field.kind is FieldKind.NUMBER:
            low, high = numbers_of_keys(np.array(bounds, np.int64)).tolist()
            return f", whose values lie between {low:g} and {high:g}"
        return f", whose values lie between {bounds[0]} and {bounds[1]}"

    def _values(self, place: int) -> Iterator[Int64s]:
        """All values that items hold in a field, a chunk at a time."""
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


def _strings_note(field: str, unknown: list[str], known: Iterable[str]) -> str:
    named = unknown[:_NAMED]
    more = f" or {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
    told = f"no item has {' or '.join(map(_quoted, named))}{more} in {field}"
    close = [word for value in named if (word := nearest_word(value, known)) is not None]
    if close:
        return f"{told}; did you mean {', '.join(map(_quoted, dict.fromkeys(close)))}?"
    words = list(islice(known, _WORDS_LISTED + 1))
    if len(words) > _WORDS_LISTED:
        return told
    return f"{told}; items have {', '.join(map(_quoted, words)) or 'none at all'}"


def nearest_word(value: str, words: Iterable[str]) -> str | None:
    """The word that is equal but for case and spaces around it, else that which difflib finds nearest; None where none
    is near. Of many words the first are read."""
    folded = value.casefold().strip()
    alike: dict[str, str] = {}
    longest = max(2, len(folded) // 3)
    for word in islice(words, _WORDS_READ):
        other = word.casefold().strip()
        if other == folded:
            return word
        if abs(len(other) - len(folded)) <= longest and len(alike) < _WORDS_COMPARED:
            alike.setdefault(other, word)
    close = difflib.get_close_matches(folded, alike, n=1)
    return alike[close[0]] if close else None


def _quoted(value: str) -> str:
    short = value if len(value) <= _CHARACTERS else value[: _CHARACTERS - 3] + "..."
    return f'"{short}"'
