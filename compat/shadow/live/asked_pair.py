"""A call answered by both sides, and its encoding for the comparing process."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from google.protobuf.proto import serialize_length_prefixed

from meshfold.compat.hydration.recorded_request import recorded_request, recorded_user
from meshfold.protos.meshfold.v1 import recording_pb2 as pb
from meshfold.service.front import Answered, Outcome

_64_BITS = (1 << 64) - 1


@dataclass(frozen=True)
class AskedPair:
    """A call answered by both sides. unix_ms: time of the shadow call. again: the mesh's second outcome; None where it
    was not called again."""

    unix_ms: int
    answered: Answered
    shadow: Outcome
    again: Outcome | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the request and the answers."""
        outcomes = (self.answered.outcome, self.shadow, self.again)
        replies = [outcome.reply for outcome in outcomes if outcome is not None]
        return len(self.answered.message) + sum(reply.size_bytes for reply in replies if reply is not None)


def frames(pair: AskedPair, server: int) -> bytes:
    """The pair as length-prefixed meshfold.v1.Recorded messages: the answer, the mesh's second answer if any, and last
    the shadow. server: added to the call's number, so that numbers of several servers differ."""
    answered = pair.answered
    written = BytesIO()

    def write(outcome: Outcome, request: bytes, shadow: bool, again: bool = False) -> None:
        code: int = outcome.code.value[0]
        record = pb.Recorded(
            unix_ms=pair.unix_ms,
            call=(server + answered.number) & _64_BITS,
            shadow=shadow,
            again=again,
            surface=answered.surface,
            mode=answered.mode,
            side=outcome.side.value,
            fallback="" if shadow else answered.fallback,
            code=code,
            took_s=outcome.took_s,
            request=request,
            answer=outcome.reply.message if outcome.reply is not None else b"",
            method=answered.method,
            metadata=answered.metadata,
        )
        user = recorded_user(answered, outcome if shadow else None)
        if user is not None:
            record.hydrated = user.SerializeToString()
        serialize_length_prefixed(record, written)

    write(answered.outcome, recorded_request(answered), shadow=False)
    if pair.again is not None:
        write(pair.again, b"", shadow=True, again=True)
    write(pair.shadow, recorded_request(answered, pair.shadow), shadow=True)
    return written.getvalue()
