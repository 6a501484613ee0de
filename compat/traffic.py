"""What recordings and comparisons ask of a mapped method: its messages as a pair has them, and what of them is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import grpc

    from meshfold.compat.recording.redaction import RedactedRequest
    from meshfold.compat.recording.rules import Rules
    from meshfold.compat.shadow.pairs import SideAnswer

# A caller's metadata by name, as far as a mapping reads it.
Metadata = Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """One query of a request.

    message: a mesh.v1.RetrieveRequest that asks the same; b"" where the mapping refuses the request. is_whole: whether
    an answer to it is one to the request, too: not for a later page, and not where mesh.v1 lacks a bound of the query.
    """

    message: bytes
    is_whole: bool = True


class MessageRedaction(Protocol):
    """Of one method's messages, by an operator's rules."""

    def redacted(self, message: bytes, metadata: Metadata, /) -> RedactedRequest: ...

    def answer(self, message: bytes, /) -> bytes:
        """Empty where the bytes are no answer."""


class Traffic(Protocol):
    """Of one method. digest: SHA-256 over its mapping and protocol, in hexadecimal digits."""

    @property
    def method(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def can_compare(self) -> bool:
        """Whether an answer tells its items."""

    def redaction(self, rules: Rules, /) -> MessageRedaction: ...

    def metadata(self, metadata: Sequence[tuple[str, str | bytes]], /) -> Metadata:
        """Those of a caller that the mapping reads."""

    def is_later_page(self, message: bytes, metadata: Metadata, /) -> bool:
        """Whether a request continues an answer by a token, which the side that gave it alone understands."""

    def questions(self, message: bytes, metadata: Metadata, /) -> Sequence[Question]:
        """A request's queries, in order. Raises InvalidData where the bytes are no request."""

    def answers(self, message: bytes, latency_ms: float, /) -> Sequence[SideAnswer]:
        """An answer's parts, one a query. Raises InvalidData where they cannot be read back."""

    def failures(self, code: grpc.StatusCode, latency_ms: float, queries: int, /) -> Sequence[SideAnswer]:
        """The parts of an answer that is a status."""


# By the full names of their methods.
Traffics = Mapping[str, Traffic]
