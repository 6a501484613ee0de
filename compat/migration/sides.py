"""The two sides behind one interface: the mesh over a channel, the model in this process."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import grpc
import grpc.aio

from meshfold.compat.migration.breaker import Breaker
from meshfold.compat.migration.connections import Connection, Connections
from meshfold.model.errors import InvalidQuery
from meshfold.service.call import Answer, Call, Metadata
from meshfold.service.front import Reply

# Keys of trailing metadata of every answer: the answering side, and the status of a first side that failed.
ANSWERED_BY = "meshfold-answered-by"
FALLBACK = "meshfold-fallback"
# Metadata key of shadow calls, whose answers no user sees.
SHADOW = "meshfold-shadow"
# Metadata key, besides SHADOW, of a second call of the mesh for the same request.
AGAIN = "meshfold-again"
_OWN = frozenset((ANSWERED_BY, FALLBACK, SHADOW, AGAIN))

# Headers of a connection (RFC 9110 7.6.1), and headers that gRPC's library writes itself; they are not passed on.
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
# Reserved headers that are passed on: google.rpc.Status with details, and the time of a retry (gRFC A6).
_OF_A_STATUS = ("grpc-status-details-bin", "grpc-retry-pushback-ms")


@dataclass(frozen=True)
class Request:
    """A request to a side. method: full name. surface: its label, one of a bounded number. metadata: as sent to the
    mesh. deadline_s: on time.monotonic()'s clock. is_shadow: whether it is a shadow call."""

    method: str
    message: bytes
    surface: str
    metadata: Metadata
    deadline_s: float
    is_shadow: bool = False


class Model:
    """The model, which answers in this process."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        """answers: by full name of the method."""
        self._answers = answers

    async def ask(self, request: Request) -> Reply:
        """Calls the model. Raises the errors of its answer."""
        call = Call(
            request.message, request.deadline_s, metadata=request.metadata, is_shadow=request.is_shadow
        )
        message = await self._answers[request.method](call)
        return Reply(message, call.initial, call.trailing, call.hydrated)


class Mesh:
    """The mesh, called over a channel with unchanged bytes. All methods run on the loop."""

    def __init__(self, connections: Connections, breaker: Breaker) -> None:
        self._connections = connections
        self._breaker = breaker

    async def ask(self, request: Request) -> Reply:
        """Calls the mesh. Raises grpc.RpcError with its status, Unavailable or Overloaded where it was not called."""
        check(request.metadata)
        with self._breaker.call(request.surface, request.is_shadow) as call:
            deadline_s = time.monotonic() + call.timeout_s(request.deadline_s)
            met_none: list[Connection] = []
            while True:
                connection = await self._connections.pick(deadline_s, met_none)
                try:
                    return await _ask(connection, request, deadline_s)
                except grpc.aio.AioRpcError as error:
                    # All these calls only read, so that they can be repeated at another address.
                    met_none.append(connection)
                    is_absent = error.code() is grpc.StatusCode.UNAVAILABLE
                    if not is_absent or len(met_none) >= self._connections.attempts:
                        raise


async def _ask(connection: Connection, request: Request, deadline_s: float) -> Reply:
    call = connection.unary(request.method)(
        request.message,
        timeout=max(0.0, deadline_s - time.monotonic()),
        metadata=request.metadata,
    )
    message = await call
    return Reply(
        message,
        passed_back(await call.initial_metadata()),
        passed_back(await call.trailing_metadata()),
    )


def check(metadata: Metadata) -> None:
    """Raises InvalidQuery for a value that gRPC cannot send."""
    for key, value in metadata:
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            raise InvalidQuery(
                f"metadata[{key!r}]", "has characters other than printable ASCII; use a -bin name"
            )


def passed_on(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """A caller's metadata as sent to the mesh."""
    return tuple((key, value) for key, value in metadata if _of_the_call(key))


def passed_back(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """The mesh's metadata as sent to the caller."""
    return tuple((key, value) for key, value in metadata or () if key in _OF_A_STATUS or _of_the_call(key))


def _of_the_call(key: str) -> bool:
    return key not in _HOP_BY_HOP and key not in _OWN and not key.startswith(("grpc-", ":"))
