"""Converts the records of one call into requests of mesh.v1 with the answers of each side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc

from meshfold.compat.hydration.recorded_request import with_user
from meshfold.compat.shadow.answers import answer_of, failure_of
from meshfold.compat.shadow.pairs import OK, PairSide, SideAnswer
from meshfold.compat.shadow.request_facts import HISTORY, RequestFacts
from meshfold.compat.traffic import Question, Traffic, Traffics
from meshfold.model.errors import InvalidData
from meshfold.protos.meshfold.v1 import recording_pb2 as pb

A = TypeVar("A")
STATUSES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
NO_MAPPING = "requests of a caller's own protocol: name the mapping of their method with --mapping"


@dataclass(frozen=True)
class RecordedCall:
    """A recorded request with its answers. message: a mesh.v1.RetrieveRequest; b"" for none. is_redacted: None in older
    records, which do not have it. sides: answers by PairSide."""

    message: bytes
    is_redacted: bool | None
    sides: Mapping[str, SideAnswer]

    def lacks_anything(self, facts: RequestFacts) -> bool:
        """Whether the message cannot be replayed. An older record without a history counts as redacted, since its
        history may have been removed."""
        if not self.message:
            return False
        return facts.slices[HISTORY] == "0" if self.is_redacted is None else self.is_redacted


def calls_of(answered: pb.Recorded, shadows: Sequence[pb.Recorded], traffics: Traffics) -> list[RecordedCall]:
    """The recorded requests of a call: one for mesh.v1, one for each query of a mapped method. Raises InvalidData."""
    records = (answered, *shadows)
    if answered.method:
        return _mapped(answered, records, traffics)
    # The request sent to the model is preferred: it includes a filled-in user.
    asked = next((r for r in shadows if r.request and r.side == PairSide.MODEL), answered)
    is_redacted = asked.is_redacted if asked.HasField("is_redacted") else None
    return [RecordedCall(asked.request, is_redacted, _sides(records, _side))]


def _mapped(answered: pb.Recorded, records: Sequence[pb.Recorded], traffics: Traffics) -> list[RecordedCall]:
    traffic = traffics.get(answered.method)
    if traffic is None:
        raise InvalidData(NO_MAPPING)
    # A request that could not be parsed is recorded without bytes.
    questions: Sequence[Question] = (Question(b"", is_whole=False),)
    if answered.request:
        questions = traffic.questions(answered.request, dict(answered.metadata))
    asked = next((record for record in records if record.hydrated), answered)
    sides = _sides(records, lambda record: _parts(record, traffic, len(questions)))
    calls = []
    for place, question in enumerate(questions):
        message = question.message
        if message and asked.hydrated:
            message = with_user(message, asked.hydrated)
        of_query = {side: parts[place] for side, parts in sides.items()}
        calls.append(RecordedCall(message, asked.is_redacted or not question.is_whole, of_query))
    return calls


def _sides(records: Sequence[pb.Recorded], answer: Callable[[pb.Recorded], A]) -> dict[str, A]:
    """The answers by PairSide; the caller's answer takes precedence."""
    sides: dict[str, A] = {}
    for record in records:
        side = str(PairSide.AGAIN if record.again else record.side)
        if side not in sides:
            sides[side] = answer(record)
    return sides


def _side(record: pb.Recorded) -> SideAnswer:
    """The answer of a record. Raises InvalidData."""
    status, latency_ms = STATUSES[record.code], record.took_s * 1000
    if status.name != OK:
        return failure_of(status, latency_ms)
    if not record.answer:
        # An answer that could not be parsed is recorded without bytes.
        raise InvalidData("answers without content")
    try:
        return answer_of(record.answer, latency_ms)
    except InvalidData:
        raise InvalidData("answers that do not decode") from None


def _parts(record: pb.Recorded, traffic: Traffic, queries: int) -> Sequence[SideAnswer]:
    """The answers of a mapped method, one for each query. Raises InvalidData."""
    status, latency_ms = STATUSES[record.code], record.took_s * 1000
    if status.name != OK:
        return traffic.failures(status, latency_ms, queries)
    if record.is_unreadable:
        raise InvalidData("answers that do not decode")
    parts = traffic.answers(record.answer, latency_ms)
    if len(parts) != queries:
        raise InvalidData("answers with another number of parts than their requests have queries")
    return parts
