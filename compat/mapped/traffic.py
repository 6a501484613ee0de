"""The Traffic of a mapped method: translates its requests to mesh.v1 and its answers to sides of pairs, and redacts
both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat import mesh_messages
from meshfold.compat.mapped.adapter import MappedAdapter
from meshfold.compat.mapped.answer_reader import AnswerReader
from meshfold.compat.mapped.kept import Kept, Kind
from meshfold.compat.mapped.kept_tensors import KeptTensors
from meshfold.compat.mapped.paths import Step
from meshfold.compat.mapped.shown import Shown
from meshfold.compat.mapped.toml_lines import Key
from meshfold.compat.mapped.values import Metadata
from meshfold.compat.recording.redaction import RedactedRequest
from meshfold.compat.recording.rules import Rules
from meshfold.compat.shadow.answers import failure_of
from meshfold.compat.shadow.pairs import SideAnswer
from meshfold.compat.traffic import Question
from meshfold.compat.wire_values import is_map, is_repeated
from meshfold.model.errors import InvalidData, InvalidQuery

# Kinds of a mapping's keys in redaction; the others are plain.
_KINDS = {
    "user_id": Kind.USER_ID,
    "request_id": Kind.REQUEST_ID,
    "history": Kind.HISTORY,
    "excluded": Kind.HISTORY,
    "features": Kind.FEATURES,
}


class MappedTraffic:
    """A Traffic of compat/traffic.py."""

    def __init__(self, adapter: MappedAdapter, digest: str) -> None:
        self._adapter = adapter
        self.method = adapter.METHOD
        self.digest = digest
        self._reader = AnswerReader(
            adapter.answer.shown, adapter.descriptor.output_type, adapter.answer.tensors
        )
        self._empty = grpc.StatusCode[adapter.empty]

    @property
    def can_compare(self) -> bool:
        """Whether item ids can be read from an answer."""
        return self._reader.can_read

    def redaction(self, rules: Rules) -> MappedRedaction:
        return MappedRedaction(self._adapter, rules)

    def metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> Metadata:
        """The caller's metadata that the mapping reads."""
        keys = self._adapter.request.metadata_keys
        if not keys:
            return {}
        return {name: value for name, value in metadata if name in keys and isinstance(value, str)}

    def is_later_page(self, message: bytes, metadata: Metadata) -> bool:
        """Whether a request has a page token, which only the side that made it understands."""
        paging = self._adapter.request.paging
        if paging is None or paging.token is None:
            return False
        try:
            return bool(paging.token.read(self._adapter.request.parse(message), metadata))
        except InvalidQuery:
            return False

    def questions(self, message: bytes, metadata: Metadata) -> Sequence[Question]:
        """The queries of a request, in order. Raises InvalidData where the bytes cannot be parsed."""
        try:
            parts = self._adapter.parts(message, metadata)
        except InvalidQuery as error:
            return (_refused(error),)
        return tuple(self._question(part) for part in parts)

    def _question(self, part: bytes) -> Question:
        """The question of one query."""
        try:
            query = self._adapter.decode(part)
        except InvalidQuery as error:
            return _refused(error)
        first = query.page.first if query.page is not None else 0
        asked = replace(
            query,
            max_results=query.page.wanted if query.page is not None else query.max_results,
            max_per_value=None,
            fields=(),
        )
        try:
            encoded = mesh_messages.encode_request(asked)
        except InvalidQuery:  # a server refuses it, too
            return Question(b"", is_whole=False)
        is_whole = not first and query.max_per_value is None and query.min_value is None
        return Question(encoded, is_whole)

    def answers(self, message: bytes, latency_ms: float) -> Sequence[SideAnswer]:
        """The parts of an answer, one for each query. Raises InvalidData where they cannot be read."""
        if not self.can_compare:
            raise InvalidData(f"answers of {self.method}, whose mapping names no field for item_id")
        try:
            parts = self._adapter.answer_parts(message)
        except (DecodeError, InvalidQuery):
            raise InvalidData("answers that do not decode") from None
        return tuple(self._reader.read(part, latency_ms) for part in parts)

    def failures(self, code: grpc.StatusCode, latency_ms: float, queries: int) -> Sequence[SideAnswer]:
        """The parts of a failed answer; empty answers for the status by which the protocol reports no results."""
        if code is self._empty:
            return (SideAnswer((), latency_ms=latency_ms),) * queries
        return (failure_of(code, latency_ms),) * queries


class MappedRedaction:
    """A MessageRedaction of compat/traffic.py."""

    def __init__(self, adapter: MappedAdapter, rules: Rules) -> None:
        request = adapter.request
        found = [(steps, _kind(key)) for key, steps in request.scope.found]
        self._rules = rules
        self._request_kind = GetMessageClass(adapter.descriptor.input_type)
        self._answer_kind = GetMessageClass(adapter.descriptor.output_type)
        self._request = Kept(found, rules)
        self._histories = [steps for key, steps in request.scope.found if key[3:4] == ("history",)]
        self._tensors: KeptTensors | None = None
        named = {name: _kind(key) for key, name in request.scope.named}
        if request.scope.tensors:
            self._tensors = KeptTensors(request.scope.tensors[0], named, rules)
        self._history_tensors = {name for key, name in request.scope.named if key[3:4] == ("history",)}
        shown = [(each.path.steps, _shown_kind(each, found)) for each in adapter.answer.shown]
        if adapter.answer.tensors is not None:
            shown.append((adapter.answer.tensors.raw.steps, Kind.PLAIN))
        # Fields of explanations are dropped, since a mesh may put anything there.
        self._answer = Kept([(steps, kind) for steps, kind in shown if kind is not None], rules)
        self._metadata = _metadata_kinds(adapter)

    def redacted(self, message: bytes, metadata: Metadata) -> RedactedRequest:
        """The redacted request; empty where the bytes cannot be parsed."""
        parsed = _parsed(self._request_kind, message)
        if parsed is None:
            return RedactedRequest(b"", True)
        kept, report = self._request.copy(parsed)
        has_history = any(_holds(kept, steps) for steps in self._histories)
        if self._tensors is not None and not self._rules.keeps_all:
            if not self._tensors.can_keep:
                return RedactedRequest(b"", True)
            names = self._tensors.apply(kept, report)
            has_history |= not self._history_tensors.isdisjoint(names)
        of_metadata = {name: self._of_metadata(name, value) for name, value in metadata.items()}
        has_new_user = report.has_new_user or any(
            self._metadata.get(name) is Kind.USER_ID and value != metadata[name]
            for name, value in of_metadata.items()
        )
        lacks_user = has_new_user and not has_history
        return RedactedRequest(
            # The original bytes where nothing was removed.
            _bytes(kept) if report.is_changed or not self._rules.keeps_all else message,
            report.is_lost or lacks_user,
            {name: value for name, value in of_metadata.items() if value is not None},
            tuple(report.left_out),
            lacks_user and not report.is_lost,
        )

    def answer(self, message: bytes) -> bytes:
        """The redacted answer; empty where the bytes cannot be parsed."""
        parsed = _parsed(self._answer_kind, message)
        if parsed is None:
            return b""
        kept, report = self._answer.copy(parsed)
        return _bytes(kept) if report.is_changed or not self._rules.keeps_all else message

    def _of_metadata(self, name: str, value: str) -> str | None:
        match self._metadata.get(name):
            case Kind.USER_ID:
                return self._rules.user_key(value)
            case Kind.REQUEST_ID:
                return self._rules.request_id(value)
            case Kind.HISTORY:
                return None if "history" in self._rules.omit else value
            case Kind.FEATURES:
                return None if "features" in self._rules.omit else value
        return value


def _refused(error: InvalidQuery) -> Question:
    """The question of a request that the mapping refuses: an empty one. Raises InvalidData where it cannot be
    parsed."""
    if error.path == "request":
        raise InvalidData("requests that do not decode")
    return Question(b"", is_whole=False)


def _kind(key: Key) -> Kind:
    """The kind of a path, by its key in the mapping: method.NAME.request.PART."""
    if key[2:3] != ("request",):
        return Kind.PLAIN
    return next((_KINDS[name] for name in key[3:] if name in _KINDS), Kind.PLAIN)


def _shown_kind(shown: Shown, found: Sequence[tuple[Sequence[Step], Kind]]) -> Kind | None:
    """The kind of a field of an answer; None to drop it. A repeated value of the request has its kind there."""
    if shown.kind == "echo":
        source = shown.source if isinstance(shown.source, str) else shown.source.get("path", "")
        names = [step.strip("()").partition("[")[0].partition("<")[0] for step in source.split(".")]
        kinds = [kind for steps, kind in found if [step.field.name for step in steps] == names]
        return max(kinds, default=Kind.PLAIN)
    if shown.kind == "from" and shown.source in ("request_id", "explain"):
        return Kind.REQUEST_ID if shown.source == "request_id" else None
    return Kind.PLAIN


def _metadata_kinds(adapter: MappedAdapter) -> Mapping[str, Kind]:
    """The kinds of metadata that is not plain, by name."""
    request = adapter.request
    found = dict.fromkeys(request.feature_metadata, Kind.FEATURES)
    for name in ("request_id", "user_id"):
        value = request.value(name)
        if value is not None:
            found |= dict.fromkeys(value.metadata, _KINDS[name])
    return found


def _holds(message: Any, steps: Sequence[Step]) -> bool:
    """Whether a message has a value along a path, in any entry."""
    first = steps[0].field
    found = [value for held, value in message.ListFields() if held.full_name == first.full_name]
    if not found or len(steps) == 1:
        return bool(found)
    entries = found[0].values() if is_map(first) else found[0] if is_repeated(first) else found
    return any(hasattr(each, "ListFields") and _holds(each, steps[1:]) for each in entries)


def _parsed(kind: Any, message: bytes) -> Any | None:
    """The parsed message; None where the bytes cannot be parsed."""
    try:
        return kind.FromString(message)
    except (DecodeError, RecursionError):
        return None


def _bytes(message: Any) -> bytes:
    content: bytes = message.SerializePartialToString(deterministic=True)
    return content
