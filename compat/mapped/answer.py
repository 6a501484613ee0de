"""Encodes candidates as a caller's answer: one column per field, by functions compiled when the mapping is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from meshfold.compat.mapped.answer_groups import name_of, place_of
from meshfold.compat.mapped.answer_level import Level
from meshfold.compat.mapped.answer_tensors import AnswerTensors, answer_tensors
from meshfold.compat.mapped.codecs import Codec
from meshfold.compat.mapped.columns import Column, column_of
from meshfold.compat.mapped.conversions import Target
from meshfold.compat.mapped.descriptors import Protocol
from meshfold.compat.mapped.errors import Misfit
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paging import next_token
from meshfold.compat.mapped.paths import Path, resolve
from meshfold.compat.mapped.request import MappedQuery, Request
from meshfold.compat.mapped.shown import Shown, shown_of
from meshfold.compat.mapped.values import value_of
from meshfold.model.types import Candidates, FieldValues

_KINDS = ("string", "integer", "number", "bool")
# Sources with one value for all queries of a request.
_OF_ALL = ("version", "request_id", "surface")
# Stands for a catalog field that is returned whatever names the caller chooses.
_ALWAYS = ""


@dataclass(frozen=True, eq=False)
class Reply:
    """The data of an answer's columns. candidates: those of the page. named: translates paths of the query for errors.
    next_token: token of the next page. made: intermediate results shared by columns."""

    query: MappedQuery
    candidates: Candidates
    named: Callable[[str], str]
    next_token: str = ""
    made: dict[Any, Any] = field(default_factory=dict, repr=False)


class Answer:
    """Encodes answers of one method. shown: the source of each field, in the order of the mapping. tensors: the places
    of tensors, if any."""

    def __init__(
        self,
        part: Part,
        message: Descriptor,
        protocol: Protocol,
        request: Request,
        codec: Codec | None,
        parts: Sequence[FieldDescriptor] = (),
    ) -> None:
        """part: the table of the mapping. parts: nested fields, of which the last has an entry for each query of a
        request. Raises InvalidMapping."""
        self._paging = request.paging
        self._named = request.path
        self.tensors: AnswerTensors | None = None
        # The whole answer first, the answer to one query last.
        self.levels = [Level(message), *(Level(field.message_type) for field in parts)]
        # For each catalog field, the caller's names that select it.
        by_name: dict[str, list[str]] = {}
        shown: list[Shown] = []
        asks = request.asked is not None
        for text, entry in part.table().items():
            if "tensors" in entry:
                self._add_tensors(entry, text, message, protocol, codec, asks, shown, by_name)
                continue
            with entry.located():
                whole = resolve(text, message, protocol)
                depth = _depth(whole, parts)
                if depth and len(parts) > depth and any(step.fans_out for step in whole.steps[depth:]):
                    raise Misfit(f"{text!r} lies beside the answers to queries, and holds no list")
                path = Path(text.split(".", depth)[-1], whole.steps[depth:], whole.leaf)
                only = entry.raw.get("only", "") if isinstance(entry.raw, dict) else ""
                target = self.levels[depth].target(path, only)
            column = self._column(entry, target, request, codec)
            if depth < len(parts) and not _is_of_all(entry):
                names = ".".join(field.name for field in parts)
                raise entry.error(f"is of one query, and {text!r} of several; name a field of {names}")
            shown.append(shown_of(entry, whole, codec))
            if column.field:
                place = place_of(path)
                name = _ALWAYS if place is None else str(name_of(path.steps[place[1]]))
                by_name.setdefault(column.field, []).append(name)
            self.levels[depth].add(entry, path, target, column)
        for level in self.levels:
            level.finish(part, asks)
        if self.levels[-1].is_empty:
            raise part.error("is empty; map at least one field of the answer")
        if request.asked is not None:
            request.asked.known.update(*(level.names for level in self.levels))
            if self.tensors is not None:
                request.asked.known.update(each.tensor for each in self.tensors.shown)
            if not request.asked.known:
                raise part.error(
                    "has no entry, key or tensor of a name that the request's asked could choose"
                )
        request.shown = {field: frozenset(names) for field, names in by_name.items()}
        self.shown = tuple(shown)

    def _add_tensors(
        self,
        entry: Part,
        text: str,
        message: Descriptor,
        protocol: Protocol,
        codec: Codec | None,
        asks: bool,
        shown: list[Shown],
        by_name: dict[str, list[str]],
    ) -> None:
        if len(self.levels) > 1:
            raise entry.error("answers to several queries have no tensors")
        if self.tensors is not None:
            raise entry.error("an answer has one list of tensors")
        self.tensors = found = answer_tensors(entry, text, message, protocol, codec, asks)
        with entry.located():
            for path, column in found.columns.items():
                self.levels[0].put(path, column)
        shown.extend(found.shown)
        for tensor, held in found.fields.items():
            by_name.setdefault(held, []).append(tensor)

    def _column(self, entry: Part, target: Target, request: Request, codec: Codec | None) -> Column:
        if "echo" not in entry:
            return column_of(entry, target, codec)
        entry.table({"echo", "enum", "default"})
        value = value_of(entry["echo"], request.scope, _KINDS)
        name = entry.raw["echo"] if isinstance(entry.raw["echo"], str) else value.name
        request.echoes[name] = value
        return column_of(entry, target, codec, echo=(name, value.kind))

    def encode(self, query: MappedQuery, candidates: Candidates) -> bytes:
        """The bytes of an answer to one query. Raises Unprepared where the mapping does not fit the catalog."""
        return self.levels[-1].encode(self._reply(query, candidates))

    def encode_levels(self, query: MappedQuery, candidates: Candidates) -> list[bytes]:
        """The bytes of each level's own fields, the whole answer's first."""
        reply = self._reply(query, candidates)
        return [level.encode(reply) for level in self.levels]

    def _reply(self, query: MappedQuery, candidates: Candidates) -> Reply:
        if query.min_value is not None:
            enough = int(np.count_nonzero(candidates.values >= np.float32(query.min_value)))
            candidates = part_of(candidates, 0, enough)
        if self._paging is None or query.page is None:
            return Reply(query, candidates, self._named)
        page = query.page
        candidates = part_of(candidates, page.first, page.first + page.wanted)
        token = next_token(page, candidates.item_ids) if self._paging.token is not None else ""
        return Reply(query, candidates, self._named, token)


def _depth(path: Path, parts: Sequence[FieldDescriptor]) -> int:
    """The number of fields of `parts` that a path passes through."""
    depth = 0
    for step, part in zip(path.steps, parts, strict=False):
        if step.field.full_name != part.full_name or step.index is not None or step.where is not None:
            break
        depth += 1
    return min(depth, len(path.steps) - 1)


def _is_of_all(entry: Part) -> bool:
    """Whether a value is the same for all queries of a request."""
    if not isinstance(entry.raw, dict):
        return entry.raw in _OF_ALL
    return "echo" in entry or ("const" in entry and "empty" not in entry) or entry.raw.get("from") in _OF_ALL


def part_of(candidates: Candidates, first: int, end: int) -> Candidates:
    """The candidates from rank `first` to `end`."""
    if first == 0 and end >= len(candidates.item_ids):
        return candidates
    fields = {}
    for name, held in candidates.fields.items():
        start = int(held.lengths[:first].sum())
        stop = start + int(held.lengths[first:end].sum())
        fields[name] = FieldValues(held.lengths[first:end], held.values[start:stop])
    return replace(
        candidates,
        item_ids=candidates.item_ids[first:end],
        values=candidates.values[first:end],
        similarities=candidates.similarities[first:end],
        task_scores=candidates.task_scores[first:end],
        fields=fields,
    )
