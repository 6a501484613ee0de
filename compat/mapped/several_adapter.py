"""The adapter of a mapped method whose requests have several queries; each query is answered as a request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.adapter import MappedAdapter
from meshfold.compat.mapped.request import MappedQuery
from meshfold.compat.mapped.several import Places, Several, packed, unpacked
from meshfold.compat.mapped.wire_user import WireUser
from meshfold.model.errors import InvalidQuery, Unavailable
from meshfold.model.types import Candidates
from meshfold.service.call import Answer as Answers
from meshfold.service.call import Call

# Bytes from which messages are split on a thread in place of the loop.
_LARGE_BYTES = 1 << 16
_MOST_TRIES = 3


class SeveralAdapter(MappedAdapter):
    """Decodes and encodes one part of a request. The bytes of its answer contain data for the whole answer, then each
    message on the path to the part."""

    def __init__(self, several: Several, *parts: Any) -> None:
        """parts: arguments of MappedAdapter."""
        super().__init__(*parts)
        self.several = several

    def encode(self, query: MappedQuery, answer: Candidates) -> bytes:
        """The bytes of a part's answer. Raises the errors of MappedAdapter.encode."""
        self._refuse_empty(query, answer)
        head = json.dumps([query.surface, answer.version, self._trailing(query, answer)]).encode()
        return packed([head, *self.answer.encode_levels(query, answer)])

    def parts(self, message: bytes, metadata: Mapping[str, str]) -> list[bytes]:
        """The parts of a request, as messages for decode(). Raises InvalidQuery."""
        return [part for _, part in self.split(message, metadata)]

    def answer_parts(self, message: bytes) -> list[bytes]:
        """The parts of an answer: messages of its type with the answer to one query each. Raises DecodeError."""
        whole = GetMessageClass(self.descriptor.output_type).FromString(message)
        return [part.SerializePartialToString() for _, part in self.several.answer.split(whole)]

    def split(self, message: bytes, metadata: Mapping[str, str]) -> list[tuple[Places, bytes]]:
        whole = self.request.parse(message)
        return [
            (places, self.framed(part.SerializePartialToString(), metadata))
            for places, part in self.several.request.split(whole)
        ]

    def around(self, answer: Answers) -> SeveralAnswer:
        return SeveralAnswer(self, answer)


class SeveralAnswer:
    """The Answer of a method with several queries. scan: reads surface and user of a request's first query. traffic:
    for recordings and comparisons."""

    def __init__(self, adapter: SeveralAdapter, answer: Answers) -> None:
        self._adapter, self._answer = adapter, answer
        self.scan = WireUser(adapter.request).scan
        self.traffic = adapter.traffic

    async def __call__(self, call: Call) -> bytes:
        metadata = {name: value for name, value in call.metadata if isinstance(value, str)}
        split = self._adapter.split
        if len(call.message) > _LARGE_BYTES:
            parts = await asyncio.to_thread(split, call.message, metadata)
        else:
            parts = split(call.message, metadata)
        for _ in range(_MOST_TRIES):
            calls = [replace(call, message=message) for _, message in parts]
            answers = [unpacked(each) for each in await self._asked(calls, [places for places, _ in parts])]
            heads = [json.loads(answer[0]) for answer in answers]
            versions = {(surface, version) for surface, version, _ in heads}
            # All queries of a surface must have one version. Where it changed between them, they are answered again.
            if len(versions) == len({surface for surface, _ in versions}):
                break
        else:
            raise Unavailable("the catalog changed again and again meanwhile; ask again")
        # Copies the first answer's metadata to the caller's own call.
        vars(call).update({**vars(calls[0]), "message": call.message})
        call.trailing = (*call.trailing, *heads[0][2].items())
        return self._adapter.several.answer.joined(
            [(places, answer[1:]) for (places, _), answer in zip(parts, answers, strict=True)]
        )

    async def _asked(self, calls: Sequence[Call], places: Sequence[Places]) -> list[bytes]:
        """The answers to all parts; the first failure cancels the others."""
        tasks = [
            asyncio.ensure_future(self._part(call, place)) for call, place in zip(calls, places, strict=True)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            left = [task for task in tasks if not task.done()]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _part(self, call: Call, places: Places) -> bytes:
        try:
            return await self._answer(call)
        except InvalidQuery as error:
            named: Any = self._adapter.several.request.named(error.path, places)
            raise InvalidQuery(named, error.message) from None
