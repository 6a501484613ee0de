"""The two that can answer, behind one interface: the mesh over a channel, the model in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import grpc
import grpc.experimental

Metadata = tuple[tuple[str, str | bytes], ...]

# Says who answered, and where the other could not, why: in the trailing metadata of every answer.
ANSWERED_BY = "meshfold-answered-by"
FALLBACK = "meshfold-fallback"
# In the metadata of calls whose answers are compared and reach nobody.
SHADOW = "meshfold-shadow"

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


class Caller(Protocol):
    """What an answer asks of its call: that part of grpc.ServicerContext which a shadow's call has too."""

    def time_remaining(self) -> float:
        """Seconds; where there is no deadline, more than a lock can wait."""

    def add_callback(self, callback: Callable[[], None], /) -> bool:
        """To be called when the call ends, however. False where it has ended."""


Answer = Callable[[bytes, Any], bytes]


@dataclass(frozen=True)
class Reply:
    message: bytes
    initial: Metadata = ()
    trailing: Metadata = ()


class Bounded:
    """A call of which less time is left."""

    def __init__(self, caller: Caller, deadline_s: float) -> None:
        """deadline_s: on time.monotonic()'s clock."""
        self._caller = caller
        self._deadline_s = deadline_s

    def time_remaining(self) -> float:
        return min(self._caller.time_remaining(), self._deadline_s - time.monotonic())

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return self._caller.add_callback(callback)


class Unattended:
    """The call of a shadow: nobody waits, and nobody cancels."""

    def time_remaining(self) -> float:
        return float("inf")

    def add_callback(self, callback: Callable[[], None]) -> bool:
        del callback
        return True


class Model:
    """Answers in this process."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def ask(self, message: bytes, metadata: Metadata, caller: Caller) -> Reply:
        """Raises what the model's answer raises. Metadata is the mesh's business."""
        del metadata
        return Reply(self._answer(message, caller))


class Mesh:
    """Answers over a channel; bytes go through as they are."""

    def __init__(self, address: str, method: str, compression: grpc.Compression) -> None:
        """Connects with the first call, and again whenever the mesh was gone."""
        # A call is awaited by the thread that made it. With gRPC's usual futures another thread wakes it, which took
        # 1.1 instead of 0.9 ms of a core a call; its blocking calls took 0.8, but cannot be cancelled.
        options = [
            (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            *_RECONNECT,
        ]
        self._channel = grpc.insecure_channel(address, options, compression)
        # On the wire a call with one answer is a stream of one.
        self._call = self._channel.unary_stream(method)

    def ask(self, message: bytes, metadata: Metadata, caller: Caller) -> Reply:
        """Raises grpc.RpcError with the mesh's status."""
        left_s = caller.time_remaining()
        call = self._call(
            message,
            timeout=left_s if left_s < threading.TIMEOUT_MAX else None,
            metadata=metadata,
        )
        if not caller.add_callback(call.cancel):
            call.cancel()
        reply = b"".join(call)
        return Reply(reply, passed_back(call.initial_metadata()), passed_back(call.trailing_metadata()))

    def close(self) -> None:
        """Cancels what is in flight."""
        self._channel.close()


def passed_on(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """A caller's metadata as the mesh gets it."""
    return tuple(
        (key, value)
        for key, value in metadata
        if key not in _HOP_BY_HOP and not key.startswith(("grpc-", ":"))
    )


def passed_back(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """The mesh's metadata as the caller gets it."""
    return tuple(
        (key, value)
        for key, value in metadata or ()
        if key == _STATUS_DETAILS or (key not in _HOP_BY_HOP and not key.startswith(("grpc-", ":")))
    )
