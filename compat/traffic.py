"""The interface of a mapped method for recordings and comparisons: conversion to mesh.v1, and redaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import grpc

    from meshfold.compat.recording.redaction import RedactedRequest
    from meshfold.compat.recording.rules import Rules
    from meshfold.compat.shadow.pairs import SideAnswer

# The caller's metadata that a mapping reads, by name.
Metadata = Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """One query of a request.

    message: the equivalent mesh.v1.RetrieveRequest; b"" where the mapping refuses the request. is_whole: whether an
    answer to it answers the request: not for a later page, nor where mesh.v1 cannot express a bound of the query.
    """

    message: bytes
    is_whole: bool = True


class MessageRedaction(Protocol):
    """Redaction of one method's messages, by an operator's rules."""

    def redacted(self, message: bytes, metadata: Metadata, /) -> RedactedRequest: ...

    def answer(self, message: bytes, /) -> bytes:
        """The redacted answer; empty where the bytes cannot be parsed."""


class Traffic(Protocol):
    """The traffic of one method. digest: SHA-256 over its mapping and protocol, in hexadecimal digits."""

    @property
    def method(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def can_compare(self) -> bool:
        """Whether item ids can be read from an answer."""

    def redaction(self, rules: Rules, /) -> MessageRedaction: ...

    def metadata(self, metadata: Sequence[tuple[str, str | bytes]], /) -> Metadata:
        """The caller's metadata that the mapping reads."""

    def is_later_page(self, message: bytes, metadata: Metadata, /) -> bool:
        """Whether a request has a page token, which only the side that made it understands."""

    def questions(self, message: bytes, metadata: Metadata, /) -> Sequence[Question]:
        """The queries of a request, in order. Raises InvalidData where the bytes cannot be parsed."""

    def answers(self, message: bytes, latency_ms: float, /) -> Sequence[SideAnswer]:
        """The parts of an answer, one for each query. Raises InvalidData where they cannot be read."""

    def failures(self, code: grpc.StatusCode, latency_ms: float, queries: int, /) -> Sequence[SideAnswer]:
        """The parts of a failed answer."""


# Traffic by full name of the method.
Traffics = Mapping[str, Traffic]
