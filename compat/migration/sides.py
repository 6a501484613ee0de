"""The two that can answer, behind one interface: the mesh over a channel, the model in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import grpc
import grpc.aio

from meshfold.compat.migration.breaker import Breaker
from meshfold.model.errors import InvalidQuery

Metadata = tuple[tuple[str, str | bytes], ...]

# Says who answered, and where the other could not, why: in the trailing metadata of every answer.
ANSWERED_BY = "meshfold-answered-by"
FALLBACK = "meshfold-fallback"
# In the metadata of calls whose answers are compared and reach nobody.
SHADOW = "meshfold-shadow"
_OWN = frozenset((ANSWERED_BY, FALLBACK, SHADOW))

# Of one connection, not of a call: RFC 9110 7.6.1, and what gRPC's library writes itself.
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
    )
    + ("transfer-encoding", "upgrade", "host", "content-type", "user-agent")
)
# The one reserved name that belongs to the application: google.rpc.Status with its details.
_STATUS_DETAILS = "grpc-status-details-bin"

# A mesh that comes back is met within a second; by default gRPC waits up to two minutes between attempts.
_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class Side(StrEnum):
    MESH = "mesh"
    MODEL = "model"

    @property
    def other(self) -> Side:
        return Side.MODEL if self is Side.MESH else Side.MESH


@dataclass(frozen=True)
class Request:
    """What a side is asked. surface: its label, of a short list. metadata: as the mesh gets it. deadline_s: on
    time.monotonic()'s clock. is_shadow: nobody waits for the answer."""

    message: bytes
    surface: str
    metadata: Metadata
    deadline_s: float
    is_shadow: bool = False


@dataclass(frozen=True)
class Reply:
    message: bytes
    initial: Metadata = ()
    trailing: Metadata = ()


# Of operators' calls: bytes and a context that is not read -> bytes.
Answer = Callable[[bytes, Any], bytes]
# The model's answer to bytes: with a deadline on time.monotonic()'s clock, as a shadow or not.
ModelAnswer = Callable[[bytes, float, bool], Awaitable[bytes]]


class Model:
    """Answers in this process."""

    def __init__(self, answer: ModelAnswer) -> None:
        self._answer = answer

    async def ask(self, request: Request) -> Reply:
        """Raises what the model's answer raises. Metadata is the mesh's business."""
        return Reply(await self._answer(request.message, request.deadline_s, request.is_shadow))


class Mesh:
    """Answers over a channel; bytes go through as they are. Its methods are the loop's."""

    def __init__(self, address: str, method: str, compression: grpc.Compression, breaker: Breaker) -> None:
        self._address = address
        self._method = method
        self._compression = compression
        self._breaker = breaker
        self._channel: Any = None
        self._call: Any = None

    def connect(self) -> None:
        """Connects with the first call, and again whenever the mesh was gone."""
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            *_RECONNECT,
        ]
        self._channel = grpc.aio.insecure_channel(self._address, options, self._compression)
        self._call = self._channel.unary_unary(self._method)

    async def ask(self, request: Request) -> Reply:
        """Raises grpc.RpcError with the mesh's status, Unavailable or Overloaded where it is not asked."""
        _check(request.metadata)
        with self._breaker.asked(request.surface, request.is_shadow) as asked:
            call = self._call(
                request.message,
                timeout=asked.timeout_s(request.deadline_s),
                metadata=request.metadata,
            )
            message = await call
            return Reply(
                message,
                passed_back(await call.initial_metadata()),
                passed_back(await call.trailing_metadata()),
            )

    async def close(self) -> None:
        """Cancels what is in flight."""
        if self._channel is not None:
            await self._channel.close()


def _check(metadata: Metadata) -> None:
    """Raises InvalidQuery for a value that gRPC cannot send."""
    for key, value in metadata:
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            raise InvalidQuery(
                f"metadata[{key!r}]", "has characters other than printable ASCII; use a -bin name"
            )


def passed_on(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """A caller's metadata as the mesh gets it."""
    return tuple((key, value) for key, value in metadata if _of_the_call(key))


def passed_back(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """The mesh's metadata as the caller gets it."""
    return tuple((key, value) for key, value in metadata or () if key == _STATUS_DETAILS or _of_the_call(key))


def _of_the_call(key: str) -> bool:
    return key not in _HOP_BY_HOP and key not in _OWN and not key.startswith(("grpc-", ":"))
