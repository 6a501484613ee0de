"""The server's adapter of a mapped method."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from meshfold.compat.mapped.answer import Answer
from meshfold.compat.mapped.request import MappedQuery, Request
from meshfold.compat.mapped.wire_user import WireUser
from meshfold.compat.traffic import Traffic
from meshfold.model.errors import InvalidQuery, Unavailable, UnknownName
from meshfold.model.limits import Limits
from meshfold.model.types import Candidates, Query, RequestSize
from meshfold.service.call import Answer as Answers
from meshfold.service.call import Call

_LENGTH = 4
# Errors for an answer without results, by the names in a mapping.
EMPTY: Mapping[str, type[Exception] | None] = {
    "OK": None,
    "NOT_FOUND": UnknownName,
    "UNAVAILABLE": Unavailable,
}
_NO_METADATA: Mapping[str, str] = {}


class MappedAdapter:
    """One method of a caller's protocol.

    Where the mapping reads metadata, a message on its way through the server is framed: the length of the metadata's
    JSON in four bytes, that JSON, then the caller's message.
    """

    def __init__(
        self,
        method: str,
        descriptor: MethodDescriptor,
        pool: DescriptorPool,
        request: Request,
        answer: Answer,
        empty: str = "OK",
        sent: Mapping[str, Callable[[Query, Candidates], str]] | None = None,
    ) -> None:
        """empty: status of an answer without results. sent: makes trailing metadata of answers, by name."""
        self.METHOD = method
        self.POOL = pool
        self.descriptor = descriptor
        self.request, self.answer = request, answer
        self.empty = empty
        self._empty = EMPTY[empty]
        self._sent = dict(sent or {})
        self._keys = request.metadata_keys
        # The Traffic for recordings and comparisons; set by the loader of the mapping.
        self.traffic: Traffic | None = None

    def measure(self, message: bytes, limits: Limits) -> RequestSize:
        """The size of a request. Raises InvalidQuery where the bytes cannot be parsed or exceed a limit."""
        message, metadata = self._unframed(message)
        return self.request.measure(message, metadata, limits)

    def decode(self, message: bytes) -> MappedQuery:
        """The query of a request. Raises InvalidQuery."""
        message, metadata = self._unframed(message)
        return self.request.decode(message, metadata)

    def path(self, query: Query, path: str) -> str:
        """Translates the path of a part of the query into a path of the caller's request."""
        return self.request.path(path)

    def encode(self, query: MappedQuery, answer: Candidates) -> bytes:
        """The bytes of an answer. Raises UnknownName or Unavailable for no results, where the mapping says so;
        Unprepared where the mapping does not fit the catalog."""
        self._refuse_empty(query, answer)
        message = self.answer.encode(query, answer)
        if not self._sent:
            return message
        return _AnswerBytes(message, self._trailing(query, answer))

    def parts(self, message: bytes, metadata: Mapping[str, str]) -> list[bytes]:
        """The queries of a request, as messages for decode(). Raises InvalidQuery."""
        return [self.framed(message, metadata)]

    def answer_parts(self, message: bytes) -> list[bytes]:
        """The parts of an answer, one for each query. Raises DecodeError."""
        return [message]

    def around(self, answer: Answers) -> Any:
        """Wraps the model's answer: frames the caller's metadata into the request, and sends metadata with the
        answer."""
        return MappedAnswer(self, answer)

    def framed(self, message: bytes, metadata: Mapping[str, str]) -> bytes:
        """The message for decode(), framed where the mapping reads metadata."""
        if not self._keys:
            return message
        held = json.dumps({key: metadata[key] for key in self._keys if key in metadata}).encode()
        return len(held).to_bytes(_LENGTH, "little") + held + message

    def _refuse_empty(self, query: MappedQuery, answer: Candidates) -> None:
        if self._empty is None:
            return
        enough = len(answer.item_ids)
        if query.min_value is not None:
            enough = int(np.count_nonzero(answer.values >= np.float32(query.min_value)))
        if not enough:
            raise self._empty("no item is eligible for this request")

    def _trailing(self, query: MappedQuery, answer: Candidates) -> dict[str, str]:
        """The trailing metadata of an answer."""
        return {name: make(query, answer) for name, make in self._sent.items()}

    def _unframed(self, message: bytes) -> tuple[bytes, Mapping[str, str]]:
        if not self._keys:
            return message, _NO_METADATA
        length = int.from_bytes(message[:_LENGTH], "little")
        start = _LENGTH + length
        if len(message) < start:
            raise InvalidQuery("request", "the message is cut off")
        return message[start:], json.loads(message[_LENGTH:start])


class MappedAnswer:
    """The Answer of a mapped method. scan: surface and user of a request, for the modes in front of a mesh.
    traffic: for recordings and comparisons."""

    def __init__(self, adapter: MappedAdapter, answer: Answers) -> None:
        self._adapter, self._answer = adapter, answer
        self.scan = WireUser(adapter.request).scan
        self.traffic = adapter.traffic

    async def __call__(self, call: Call) -> bytes:
        metadata = {name: value for name, value in call.metadata if isinstance(value, str)}
        inner = replace(call, message=self._adapter.framed(call.message, metadata))
        message = await self._answer(inner)
        # Copies the answer's metadata to the caller's own call.
        vars(call).update({**vars(inner), "message": call.message})
        if isinstance(message, _AnswerBytes):
            call.trailing = (*call.trailing, *message.metadata.items())
            return bytes(message)
        return message


class _AnswerBytes(bytes):
    """The bytes of an answer with its trailing metadata."""

    metadata: Mapping[str, str]

    def __new__(cls, message: bytes, metadata: Mapping[str, str]) -> _AnswerBytes:
        made = super().__new__(cls, message)
        made.metadata = metadata
        return made

    def __reduce__(self) -> tuple[type[_AnswerBytes], tuple[bytes, dict[str, str]]]:
        """Pickles the metadata too, since worker processes send this."""
        return _AnswerBytes, (bytes(self), dict(self.metadata))
