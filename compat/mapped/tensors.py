"""Reads tensors of a request by name, from a separate list of raw bytes or from each tensor's own fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from meshfold.compat.mapped import tensor_bytes
from meshfold.compat.mapped.getters import Get, getter
from meshfold.compat.mapped.mapping_file import Part
from meshfold.model.errors import InvalidQuery
from meshfold.model.schema import nearest

if TYPE_CHECKING:
    from meshfold.compat.mapped.values import Scope, Value

_MOST_TENSORS = 256
_ANY = ("string", "integer", "number", "bool")
# Keys of the table `tensors`.
_KEYS = {"entries", "name", "datatype", "shape", "raw", "contents", "words"}
_NAMES = {
    "string": "BYTES",
    "integer": "INT32 or INT64",
    "number": "FP32 or FP64",
    "bool": "BOOL",
}


@dataclass(eq=False)
class Tensors:
    """Tensors of a request. text: path of the entries. known: names that the mapping reads; others are refused."""

    text: str
    entries: Get
    name: Value
    datatype: Value
    shape: Get | None
    raw: Get | None
    raw_text: str
    contents: tuple[Value, ...]
    words: Mapping[str, str]
    known: set[str]

    def reader(self, name: str, kinds: Collection[str], many: bool) -> Callable[[Any], Any]:
        """Makes the reader of a tensor: a list, or its single value; None where the request lacks it."""
        self.known.add(name)
        place = f'{self.text}["{name}"]'
        wanted = " or ".join(_NAMES[kind] for kind in kinds)

        def read(message: Any) -> Any:
            entries = self.entries(message)
            found = [at for at, entry in enumerate(entries) if self.name.read(entry, {}) == name]
            if not found:
                return None
            if len(found) > 1:
                raise InvalidQuery(place, "has come before; send each tensor once")
            kind, values = self._values(message, entries, found[0], place)
            if kind not in kinds and not (kind == "integer" and "number" in kinds):
                sent = self.datatype.read(entries[found[0]], {})
                raise InvalidQuery(place, f"is {sent}; expected {wanted}")
            if many:
                return values if len(values) else None
            if len(values) != 1:
                raise InvalidQuery(place, f"must hold one value, holds {len(values)}")
            return values[0].item() if isinstance(values, np.ndarray) else values[0]

        return read

    def check(self, message: Any) -> None:
        """Raises InvalidQuery for a tensor that the mapping does not read."""
        entries = self.entries(message)
        if len(entries) > _MOST_TENSORS:
            raise InvalidQuery(self.text, f"has {len(entries)} tensors; send at most {_MOST_TENSORS}")
        for at, entry in enumerate(entries):
            name = self.name.read(entry, {}) or ""
            if name not in self.known:
                raise InvalidQuery(
                    f"{self.text}[{at}]", f"the tensor {name[:64]!r} is not served{nearest(name, self.known)}"
                )

    def _values(self, message: Any, entries: Any, at: int, place: str) -> tuple[str, Any]:
        """The values of a tensor: (kind, [n] numbers or a tuple of strings)."""
        entry = entries[at]
        sent = self.datatype.read(entry, {}) or ""
        word = self.words.get(sent)
        if word is None:
            raise InvalidQuery(
                place, f"datatype {sent[:64]!r} is not served; served: {', '.join(sorted(self.words))}"
            )
        raw = [] if self.raw is None else self.raw(message)
        try:
            if raw:
                if len(raw) != len(entries):
                    raise InvalidQuery(
                        self.raw_text,
                        f"has {len(raw)} entries, and {self.text} {len(entries)}; send one for each tensor",
                    )
                values = tensor_bytes.read(raw[at], word)
            else:
                values = self._contents(entry, word)
        except ValueError as error:
            raise InvalidQuery(place, str(error)) from None
        self._check_shape(entry, len(values), place)
        return tensor_bytes.kind_of_word(word), values

    def _contents(self, entry: Any, word: str) -> Any:
        for value in self.contents:
            held = value.read(entry, {})
            if held is None or not len(held):
                continue
            if word == tensor_bytes.STRINGS:
                if isinstance(held[0], bytes):
                    return _texts(held)
                if isinstance(held[0], str):
                    return tuple(held)
            elif value.kind == tensor_bytes.kind_of_word(word):
                return tensor_bytes.widened(tensor_bytes.fitted(list(held), word))
            raise ValueError(f"holds {value.name}, which do not fit its datatype")
        return () if word == tensor_bytes.STRINGS else np.empty(0, np.int64)

    def _check_shape(self, entry: Any, count: int, place: str) -> None:
        if self.shape is None:
            return
        shape = list(self.shape(entry))
        if any(size < 0 for size in shape) or math.prod(shape) != count:
            raise InvalidQuery(place, f"has the shape {shape[:8]}, and {count} values")
        if sum(size > 1 for size in shape) > 1:
            raise InvalidQuery(place, f"has the shape {shape[:8]}; send the values of one query")


def tensors_of(part: Part, scope: Scope) -> Tensors:
    """Compiles the table `tensors` of a mapping's request. Raises InvalidMapping."""
    # Imported here, since values.py imports this module.
    from meshfold.compat.mapped.values import value_of

    table = part.table(_KEYS, ("entries", "name", "datatype"))
    path = scope.path(table["entries"])
    if path.kind != "message" or not path.many:
        raise table["entries"].error(f"{path.text!r} must lead to repeated messages")
    if "raw" not in table and "contents" not in table:
        raise part.error("needs raw, contents or both: where the values are")
    inner = scope.within(path)
    raw = None
    if "raw" in table:
        raw = scope.path(table["raw"])
        if raw.kind != "bytes" or not raw.many:
            raise table["raw"].error(f"{raw.text!r} must lead to a list of bytes, one for each tensor")
    shape = None
    if "shape" in table:
        shape = inner.path(table["shape"])
        if shape.kind != "integer" or not shape.many:
            raise table["shape"].error(f"{shape.text!r} must lead to a list of integers")
    contents = (
        tuple(value_of(each, inner, (*_ANY, "bytes"), many=True) for each in table["contents"].entries())
        if "contents" in table
        else ()
    )
    return Tensors(
        path.text,
        getter(path),
        value_of(table["name"], inner, ("string",)),
        value_of(table["datatype"], inner, ("string",)),
        None if shape is None else getter(shape),
        None if raw is None else getter(raw),
        "" if raw is None else raw.text,
        contents,
        words_of(table.get("words"), to_word=True),
        set(),
    )


def words_of(part: Part | None, to_word: bool) -> Mapping[str, str]:
    """Maps a protocol's names of data types to a mapping's words, or the words to the names. Raises InvalidMapping."""
    names = dict(tensor_bytes.KSERVE)
    if part is not None:
        names = {}
        for word, each in part.table(tensor_bytes.WORDS).items():
            names[word] = each.text()
    return {name: word for word, name in names.items()} if to_word else names


def _texts(held: Any) -> tuple[str, ...]:
    try:
        return tuple(each.decode() for each in held)
    except UnicodeDecodeError:
        raise ValueError("holds a string that is not UTF-8") from None
