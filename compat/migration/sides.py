"""The two that can answer, behind one interface: the mesh over a channel, the model in this process."""

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

# Says who answered, and where the other could not, why: in the trailing metadata of every answer.
ANSWERED_BY = "meshfold-answered-by"
FALLBACK = "meshfold-fallback"
# In the metadata of calls whose answers are compared and reach nobody.
SHADOW = "meshfold-shadow"
# Beside it where the mesh had answered the same request before.
AGAIN = "meshfold-again"
_OWN = frozenset((ANSWERED_BY, FALLBACK, SHADOW, AGAIN))

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
# Reserved names that belong to a call's answer: google.rpc.Status with its details, and when to try again (gRFC A6).
_OF_A_STATUS = ("grpc-status-details-bin", "grpc-retry-pushback-ms")


@dataclass(frozen=True)
class Request:
    """What a side is asked. method: its full name. surface: its label, of a short list. metadata: as the mesh gets it.
    deadline_s: on time.monotonic()'s clock. is_shadow: nobody waits for the answer."""

    method: str
    message: bytes
    surface: str
    metadata: Metadata
    deadline_s: float
    is_shadow: bool = False


class Model:
    """Answers in this process."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        """answers: by a method's full name."""
        self._answers = answers

    async def ask(self, request: Request) -> Reply:
        """Raises what the model's answer raises."""
        call = Call(
            request.message, request.deadline_s, metadata=request.metadata, is_shadow=request.is_shadow
        )
        message = await self._answers[request.method](call)
        return Reply(message, call.initial, call.trailing, call.hydrated)


class Mesh:
    """Answers over a channel; bytes go through as they are. Its methods are the loop's."""

    def __init__(self, connections: Connections, breaker: Breaker) -> None:
        self._connections = connections
        self._breaker = breaker

    async def ask(self, request: Request) -> Reply:
        """Raises grpc.RpcError with the mesh's status, Unavailable or Overloaded where it is not asked."""
        check(request.metadata)
        with self._breaker.asked(request.surface, request.is_shadow) as asked:
            deadline_s = time.monotonic() + asked.timeout_s(request.deadline_s)
            met_none: list[Connection] = []
            while True:
                connection = await self._connections.pick(deadline_s, met_none)
                try:
                    return await _ask(connection, request, deadline_s)
                except grpc.aio.AioRpcError as error:
                    # The calls that come here only read, so that another address may be asked the same.
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
    """A caller's metadata as the mesh gets it."""
    return tuple((key, value) for key, value in metadata if _of_the_call(key))


def passed_back(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """The mesh's metadata as the caller gets it."""
    return tuple((key, value) for key, value in metadata or () if key in _OF_A_STATUS or _of_the_call(key))


def _of_the_call(key: str) -> bool:
    return key not in _HOP_BY_HOP and key not in _OWN and not key.startswith(("grpc-", ":"))
