"""A mapped method as the server takes adapters."""

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
# Statuses of an answer without results.
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
        """empty: the status of an answer without results. sent: metadata of answers by name."""
        self.METHOD = method
        self.POOL = pool
        self.descriptor = descriptor
        self.request, self.answer = request, answer
        self.empty = empty
        self._empty = EMPTY[empty]
        self._sent = dict(sent or {})
        self._keys = request.metadata_keys
        # Set by who loads the mapping: what recordings and comparisons ask of the method.
        self.traffic: Traffic | None = None

    def measure(self, message: bytes, limits: Limits) -> RequestSize:
        """Raises InvalidQuery where the bytes are no message, or where they ask for too much."""
        message, metadata = self._unframed(message)
        return self.request.measure(message, metadata, limits)

    def decode(self, message: bytes) -> MappedQuery:
        """Raises InvalidQuery."""
        message, metadata = self._unframed(message)
        return self.request.decode(message, metadata)

    def path(self, query: Query, path: str) -> str:
        """The caller's name of a part of the query."""
        return self.request.path(path)

    def encode(self, query: MappedQuery, answer: Candidates) -> bytes:
        """Raises UnknownName or Unavailable for no results, where the mapping says so; Unprepared where the catalog is
        none that the mapping fits."""
        self._refuse_empty(query, answer)
        message = self.answer.encode(query, answer)
        if not self._sent:
            return message
        return _Told(message, self._told(query, answer))

    def parts(self, message: bytes, metadata: Mapping[str, str]) -> list[bytes]:
        """A request's queries, each as decode() takes it. Raises InvalidQuery."""
        return [self.framed(message, metadata)]

    def answer_parts(self, message: bytes) -> list[bytes]:
        """An answer's parts, one a query. Raises DecodeError."""
        return [message]

    def around(self, answer: Answers) -> Any:
        """The answer, with metadata brought in and sent out."""
        return MappedAnswer(self, answer)

    def framed(self, message: bytes, metadata: Mapping[str, str]) -> bytes:
        """The message as decode() takes it."""
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

    def _told(self, query: MappedQuery, answer: Candidates) -> dict[str, str]:
        """Metadata of an answer."""
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
        # What the answer said of itself, to the caller's own call.
        vars(call).update({**vars(inner), "message": call.message})
        if isinstance(message, _Told):
            call.trailing = (*call.trailing, *message.metadata.items())
            return bytes(message)
        return message


class _Told(bytes):
    """An answer's bytes, and metadata that goes with them."""

    metadata: Mapping[str, str]

    def __new__(cls, message: bytes, metadata: Mapping[str, str]) -> _Told:
        made = super().__new__(cls, message)
        made.metadata = metadata
        return made

    def __reduce__(self) -> tuple[type[_Told], tuple[bytes, dict[str, str]]]:
        """It comes from another process."""
        return _Told, (bytes(self), dict(self.metadata))
