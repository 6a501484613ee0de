"""Reads item ids and scores from answers of a caller's protocol, by inverting the answer's mapping."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped import tensor_bytes
from meshfold.compat.mapped.answer_tensors import AnswerTensors
from meshfold.compat.mapped.codecs import Codec
from meshfold.compat.mapped.columns import RAW
from meshfold.compat.mapped.paths import Path, Step
from meshfold.compat.mapped.shown import Shown
from meshfold.compat.mapped.straight_lines import line_of
from meshfold.compat.shadow.pairs import ItemIds, SideAnswer
from meshfold.compat.wire_values import is_map, is_repeated
from meshfold.model.errors import InvalidData

# Reads all values of a path from a message, in order; None for an unset one.
Column = Callable[[Any], Sequence[Any]]
# Reads scores from a message, in the order of the item ids.
Scores = Callable[[Any, ItemIds], Sequence[float]]


class AnswerReader:
    """Reads answers of one method."""

    def __init__(
        self, shown: Sequence[Shown], message: Descriptor, tensors: AnswerTensors | None = None
    ) -> None:
        """shown: the source of each field. tensors: the places of tensors."""
        self._kind = GetMessageClass(message)

        def column(each: Shown) -> Column:
            return _column(each.path) if not each.tensor or tensors is None else _tensor(each.tensor, tensors)

        self._ids = [ids for each in shown if (ids := _ids_of(each, column(each))) is not None]
        by_order = sorted(shown, key=_inexactness)
        self._scores = [scores for each in by_order if (scores := _scores_of(each, column(each))) is not None]
        self._keyed = next((each for each in by_order if _is_keyed(each)), None)
        versions = [each for each in shown if (each.kind, each.source) == ("from", "version")]
        self._version = column(versions[0]) if versions else None
        self.can_read = bool(self._ids) or self._keyed is not None

    def read(self, message: bytes, latency_ms: float) -> SideAnswer:
        """The side's answer. Raises InvalidData for bytes that cannot be parsed, and for impossible ids."""
        try:
            parsed = self._kind.FromString(message)
        except (DecodeError, RecursionError):
            raise InvalidData("answers that do not decode") from None
        item_ids = self._item_ids(parsed)
        scores: Sequence[float] = ()
        for read in self._scores:
            scores = read(parsed, item_ids)
            if len(scores) == len(item_ids):
                break
        version = self._version(parsed) if self._version is not None else ()
        return SideAnswer(
            item_ids,
            tuple(scores) if len(scores) == len(item_ids) else (),
            latency_ms=latency_ms,
            version=str(version[0] or "") if version else "",
        )

    def _item_ids(self, parsed: Any) -> ItemIds:
        found: ItemIds = ()
        for read in self._ids:
            found = read(parsed)
            # One of the fields for integer and for string ids is empty.
            if any(found):
                return found
        if found or self._keyed is None:
            return found
        # A map is unordered, so that items are sorted by value, best first.
        held = _column(self._keyed.path)(parsed)
        values: Mapping[Any, float] = held[0] if held else {}
        ordered = sorted(values, key=lambda key: -values[key] / self._keyed.scale)  # type: ignore[union-attr]
        return _decoded(ordered, self._keyed.codec)


def _is_keyed(shown: Shown) -> bool:
    """Whether a field is a map from item ids to values of the order."""
    last = shown.path.steps[-1]
    is_value = (shown.kind, shown.source) == ("from", "value")
    return is_value and not shown.tensor and is_map(last.field) and last.key is None


def _inexactness(shown: Shown) -> int:
    """The sort key of sources of scores: exact numbers before rounded ones."""
    is_exact = shown.scale == 1.0 and shown.path.kind != "integer"
    return (0 if is_exact else 2) + _is_keyed(shown)


def _ids_of(shown: Shown, column: Column) -> Callable[[Any], ItemIds] | None:
    if (shown.kind, shown.source) != ("from", "item_id"):
        return None
    codec = shown.codec
    if shown.raw and not shown.tensor:
        dtype = RAW[shown.raw]
        return lambda parsed: tuple(_numbers(column(parsed), dtype).tolist())

    def read(parsed: Any) -> ItemIds:
        found = column(parsed)
        # The field is absent where the ids are of the other kind.
        if any(each is None for each in found):
            return ()
        is_text = bool(len(found)) and isinstance(found[0], str)
        return _decoded(found, codec if is_text else None)

    return read


def _scores_of(shown: Shown, column: Column) -> Scores | None:
    line = _line_of(shown)
    if line is None:
        return None
    scale, offset = line
    if shown.raw and not shown.tensor:
        dtype = RAW[shown.raw]
        return lambda parsed, _: _numbers(column(parsed), dtype).tolist()
    if not _is_keyed(shown):
        return lambda parsed, _: [((each or 0) - offset) / scale for each in column(parsed)]
    codec = shown.codec

    def by_id(parsed: Any, item_ids: ItemIds) -> Sequence[float]:
        held = column(parsed)
        values: Mapping[Any, float] = held[0] if held else {}
        keys = [codec.encode(each) for each in item_ids] if codec is not None else item_ids  # type: ignore[arg-type]
        return [(values[key] - offset) / scale for key in keys if key in values]

    return by_id


def _line_of(shown: Shown) -> tuple[float, float] | None:
    """(scale, offset) of a field that is a linear function of the order's value; None for other fields."""
    if (shown.kind, shown.source) == ("from", "value"):
        return shown.scale, shown.offset
    if shown.kind != "cel":
        return None
    found = line_of(shown.source)
    return None if found is None else (shown.scale * found[0], shown.scale * found[1] + shown.offset)


def _decoded(ids: Sequence[Any], codec: Codec | None) -> ItemIds:
    if codec is None:
        return tuple(ids)
    try:
        return tuple(codec.decode_all(ids))  # type: ignore[return-value]
    except ValueError as error:
        raise InvalidData(f"answers whose item ids do not decode: an id {error}") from None


def _numbers(held: Sequence[Any], dtype: str) -> np.ndarray[Any, Any]:
    content = b"".join(each or b"" for each in held)
    size = np.dtype(dtype).itemsize
    if len(content) % size:
        raise InvalidData(f"answers whose tensors hold no numbers of {size} bytes")
    return np.frombuffer(content, dtype)


def _tensor(name: str, tensors: AnswerTensors) -> Column:
    """Reads the values of a named tensor."""

    def read(message: Any) -> Sequence[Any]:
        entries = getattr(message, tensors.entries.steps[0].field.name)
        contents = getattr(message, tensors.raw.steps[0].field.name)
        for entry, content in zip(entries, contents, strict=False):
            if getattr(entry, tensors.name.leaf.name) != name:
                continue
            sent = getattr(entry, tensors.datatype.leaf.name)
            if tensors.datatype.kind == "enum":
                known = tensors.datatype.leaf.enum_type.values_by_number
                sent = known[sent].name if sent in known else ""
            try:
                found = tensor_bytes.read(content, tensors.words[sent])
            except (KeyError, ValueError):
                raise InvalidData("answers whose tensors do not decode") from None
            return tuple(found.tolist() if isinstance(found, np.ndarray) else found)
        return ()

    return read


def _column(path: Path) -> Column:
    """Reads a path: one value for each entry of its repeated fields, so that columns of one list have equal length."""
    last = len(path.steps) - 1
    steps = [_entries(step, place == last) for place, step in enumerate(path.steps)]

    def read(message: Any) -> Sequence[Any]:
        found: Sequence[Any] = (message,)
        for entries in steps:
            found = [inner for outer in found for inner in entries(outer)]
        return found

    return read


def _entries(step: Step, is_last: bool) -> Callable[[Any], Sequence[Any]]:
    field, name = step.field, step.field.name
    any_type = step.any_type
    if any_type is not None:
        kind = GetMessageClass(any_type)

        def opened(message: Any) -> Sequence[Any]:
            packed = message.Extensions[field] if field.is_extension else getattr(message, name)
            held = list(packed) if is_repeated(field) else [packed]
            try:
                return [kind.FromString(each.value) for each in held if each.Is(any_type)]
            except DecodeError:
                raise InvalidData("answers with an Any whose bytes do not decode") from None

        return opened
    if is_map(field):
        if step.key is None:
            return lambda message: [getattr(message, name)]
        key = step.key

        def of_key(message: Any) -> Sequence[Any]:
            held = getattr(message, name)
            return [held[key]] if key in held else []

        return of_key
    if is_repeated(field):
        if field.is_extension:
            return lambda message: list(message.Extensions[field])
        return lambda message: list(getattr(message, name))
    if field.is_extension:
        return lambda message: [message.Extensions[field] if message.HasExtension(field) else None]
    if is_last and field.has_presence and field.message_type is None:
        return lambda message: [getattr(message, name) if message.HasField(name) else None]
    return lambda message: [getattr(message, name)]
