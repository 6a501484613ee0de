"""Tensors of an answer: entries with name, data type and shape, and a separate list of values as raw bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor

from meshfold.compat.mapped import tensor_bytes
from meshfold.compat.mapped.codecs import Codec
from meshfold.compat.mapped.columns import DIMENSIONS, Column, column_of
from meshfold.compat.mapped.conversions import Make, Target
from meshfold.compat.mapped.descriptors import Protocol
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paths import Path, enum_number, resolve
from meshfold.compat.mapped.shown import Shown, shown_of
from meshfold.compat.mapped.tensors import words_of
from meshfold.model.errors import Unprepared

_KEYS = {"name", "datatype", "shape", "raw", "words", "tensors"}


@dataclass(frozen=True, eq=False)
class _Tensor:
    name: str
    word: str
    datatype: str
    make: Make
    field: str


@dataclass(frozen=True, eq=False)
class AnswerTensors:
    """The tensors of a method's answers. entries, name, datatype, shape, raw: paths. words: a mapping's words by the
    protocol's names of data types. columns: by path. fields: catalog fields by tensor name. shown: one for each
    tensor."""

    entries: Path
    name: Path
    datatype: Path
    shape: Path | None
    raw: Path
    words: dict[str, str]
    columns: dict[str, Column]
    fields: dict[str, str]
    shown: tuple[Shown, ...]


def answer_tensors(
    part: Part, text: str, message: Descriptor, protocol: Protocol, codec: Codec | None, asks: bool
) -> AnswerTensors:
    """Compiles the table `tensors` of an answer. text: path of the entries. Raises InvalidMapping."""
    table = part.table(_KEYS, ("name", "datatype", "raw", "tensors"))
    with part.located():
        entries = resolve(text, message, protocol)
    if entries.kind != "message" or len(entries.steps) != 1 or not entries.many:
        raise part.error(f"{text!r} must be a field of repeated messages, the tensors")

    def within(name: str, kinds: Sequence[str], many: bool) -> Path:
        with table[name].located():
            path = resolve(table[name].text(), entries.leaf.message_type, protocol)
        if len(path.steps) != 1 or path.kind not in kinds or path.many is not many:
            raise table[name].error(
                f"{path.text!r} must be {'a list' if many else 'one field'} of kind {kinds[0]}"
            )
        return path

    name = within("name", ("string",), False)
    datatype = within("datatype", ("string", "enum"), False)
    shape = within("shape", ("integer",), True) if "shape" in table else None
    with table["raw"].located():
        raw = resolve(table["raw"].text(), message, protocol)
    if len(raw.steps) != 1 or raw.kind != "bytes" or not raw.many:
        raise table["raw"].error(f"{raw.text!r} must be a list of bytes, one for each tensor")
    words = words_of(table.get("words"), to_word=False)
    held = [_tensor(each, name_, raw, words, codec) for name_, each in table["tensors"].table().items()]
    if not held:
        raise table["tensors"].error("is empty; name at least one")
    of = _Written(held, asks)
    columns = {
        f"{text}.{name.text}": Column(lambda reply: [each.name for each in of.wanted(reply)]),
        f"{text}.{datatype.text}": Column(_datatypes(of, datatype, table["datatype"], held)),
        raw.text: Column(of.contents),
    }
    if shape is not None:
        columns[f"{text}.{shape.text}"] = Column(of.shapes)
    shown = tuple(shown_of(table["tensors"][each.name], entries, codec, each.name) for each in held)
    return AnswerTensors(
        entries,
        name,
        datatype,
        shape,
        raw,
        {name: word for word, name in words.items()},
        columns,
        {each.name: each.field for each in held if each.field},
        shown,
    )


class _Written:
    """The tensors of a reply, made once for all columns."""

    def __init__(self, tensors: Sequence[_Tensor], asks: bool) -> None:
        self._tensors, self._asks = tensors, asks

    def wanted(self, reply: Any) -> list[_Tensor]:
        asked = reply.query.asked if self._asks else None
        return [each for each in self._tensors if asked is None or each.name in asked]

    def contents(self, reply: Any) -> list[bytes]:
        return [content for _, content in self._made(reply)]

    def shapes(self, reply: Any) -> list[list[int]]:
        return [shape for shape, _ in self._made(reply)]

    def _made(self, reply: Any) -> list[tuple[list[int], bytes]]:
        if self not in reply.made:
            reply.made[self] = [_written(each, reply) for each in self.wanted(reply)]
        found: list[tuple[list[int], bytes]] = reply.made[self]
        return found


def _written(tensor: _Tensor, reply: Any) -> tuple[list[int], bytes]:
    values = tensor.make(reply)
    if isinstance(values, str | int | float):
        values = [values]
    try:
        content = tensor_bytes.written(values, tensor.word)
    except ValueError as error:
        raise Unprepared(f"tensor {tensor.name} is of {tensor.word}, and its values {error}") from None
    shape = list(values.shape) if hasattr(values, "shape") else [len(values)]
    return shape, content


def _tensor(part: Part, name: str, raw: Path, words: Any, codec: Codec | None) -> _Tensor:
    table = part.table()
    if "as" not in table:
        raise part.error(f"as is missing: one of {', '.join(words)}")
    word = table["as"].one_of(words)
    source = Part(
        part.file, part.lines, part.key, {key: each for key, each in part.raw.items() if key != "as"}
    )
    source_name = part.raw.get("from", "")
    dimensions = DIMENSIONS.get(source_name, 1) if isinstance(source_name, str) else 1
    kind = tensor_bytes.kind_of_word(word)
    column = column_of(source, Target(name, raw.leaf, kind, dimensions, False, dimensions > 0), codec)
    return _Tensor(name, word, words[word], column.make, column.field)


def _datatypes(of: _Written, path: Path, part: Part, held: Sequence[_Tensor]) -> Callable[[Any], Any]:
    numbers: dict[str, Any] = {each.datatype: each.datatype for each in held}
    if path.kind == "enum":
        with part.located():
            numbers = {name: enum_number(path.leaf, name) for name in numbers}
    return lambda reply: [numbers[each.datatype] for each in of.wanted(reply)]
