"""A client that queries a server in its callers' protocol: mesh.v1 for a mesh or its front, else meshfold.v1."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import grpc

from meshfold.compat import client, mesh_messages
from meshfold.compat.client import CallFailed, closed, error_of
from meshfold.compat.mesh_v1.retrieve import METHOD as MESH_METHOD
from meshfold.compat.meshfold_v1 import METHOD
from meshfold.compat.metadata_size import ANY_METADATA
from meshfold.compat.migration.migration_service import SERVICE as MIGRATION_SERVICE
from meshfold.compat.migration.sides import ANSWERED_BY, FALLBACK
from meshfold.model.errors import InvalidQuery, MeshfoldError
from meshfold.model.types import Candidates, Query
from meshfold.service.front import Side

# Value of Query.fields that stands for every field of the surface.
_EVERY_FIELD = ("*",)
_HEALTH = "/grpc.health.v1.Health/Watch"
_MOST_BYTES = 256 << 20


class Protocol(StrEnum):
    """The protocols. AUTO: mesh.v1 where the server is a mesh or in front of one, else meshfold.v1."""

    AUTO = "auto"
    MESH = "mesh.v1"
    MESHFOLD = "meshfold.v1"


@dataclass(frozen=True, eq=False)
class Reply:
    """An answer and its source.

    answered_by: "mesh" or "model"; "" where unknown. fallback: status of the first side, where it failed, else "".
    versions: of the mesh's parts by name; empty in meshfold.v1.
    """

    candidates: Candidates
    protocol: Protocol
    answered_by: str = ""
    fallback: str = ""
    versions: dict[str, str] = field(default_factory=dict)


class QueryClient:
    """A client of one server."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(
            address, [("grpc.max_receive_message_length", _MOST_BYTES), *ANY_METADATA]
        )

    def close(self) -> None:
        self._channel.close()

    def ask(self, query: Query, timeout_s: float, protocol: str = Protocol.AUTO) -> Reply:
        """Sends a query. Raises InvalidQuery, also for mesh.v1 and a query with max_per_value or fields; UnknownName,
        Overloaded, DeadlineExceeded, CallFailed."""
        end_s = time.monotonic() + timeout_s
        chosen = Protocol(protocol)
        if chosen is Protocol.AUTO:
            chosen = Protocol.MESH if self._is_front(timeout_s) else Protocol.MESHFOLD
        if chosen is Protocol.MESHFOLD:
            try:
                return self._ask_meshfold(query, timeout_s, end_s)
            except _NotHere:
                if protocol == Protocol.MESHFOLD:
                    raise CallFailed(
                        f"{self._address} does not know {METHOD}; --protocol mesh.v1 asks it as a mesh"
                    ) from None
            source = self._ask_mesh(query, timeout_s, end_s)
            return source if source.answered_by else replace(source, answered_by=Side.MESH.value)
        return self._ask_mesh(query, timeout_s, end_s)

    def _is_front(self, timeout_s: float) -> bool:
        """Whether the server is in front of a mesh, so that it has the service of modes."""
        from grpc_health.v1 import health_pb2

        # A watch, since a check of a missing service would fail and count as a refused call.
        watch = self._channel.unary_stream(
            _HEALTH,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            call: Any = watch(health_pb2.HealthCheckRequest(service=MIGRATION_SERVICE), timeout=timeout_s)
        except ValueError:  # grpc's, for a channel that is closed
            raise closed(self._address) from None
        try:
            status = next(call).status
        except StopIteration:
            return False
        except grpc.RpcError as error:
            code = error.code()
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise error_of(code, error.details() or "", self._address, timeout_s) from None
            return False
        finally:
            call.cancel()
        return bool(status != health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)

    def _ask_meshfold(self, query: Query, timeout_s: float, end_s: float) -> Reply:
        message, source = self._call(METHOD, client.encode_request(query), timeout_s, end_s)
        return Reply(client.decode_response(message), Protocol.MESHFOLD, *source)

    def _ask_mesh(self, query: Query, timeout_s: float, end_s: float) -> Reply:
        # Answers of mesh.v1 have no fields, so that all of them are none.
        if query.fields == _EVERY_FIELD:
            query = replace(query, fields=())
        try:
            message, source = self._call(MESH_METHOD, mesh_messages.encode_request(query), timeout_s, end_s)
        except _NotHere:
            raise CallFailed(
                f"{self._address} is neither a meshfold server nor a mesh: it knows neither {METHOD} nor "
                f"{MESH_METHOD}"
            ) from None
        candidates, versions = mesh_messages.decode_response(message)
        return Reply(candidates, Protocol.MESH, *source, versions=versions)

    def _call(
        self, method: str, request: bytes, timeout_s: float, end_s: float
    ) -> tuple[bytes, tuple[str, str]]:
        """Calls a method: (bytes of the answer, (answering side, status of the failed first side)). Raises _NotHere."""
        call: Callable[..., Any] = self._channel.unary_unary(method).with_call
        try:
            message, done = call(request, timeout=max(0.001, end_s - time.monotonic()))
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            if code is grpc.StatusCode.UNIMPLEMENTED:
                raise _NotHere from None
            own = error_of(code, details, self._address, timeout_s)
            raise _named(own, _source_of(error.trailing_metadata())[0]) from None
        except ValueError:  # grpc's, for a channel that is closed
            raise closed(self._address) from None
        return message, _source_of(done.trailing_metadata())


class _NotHere(Exception):
    """The server does not have the method."""


def _source_of(metadata: Any) -> tuple[str, str]:
    """(answering side, status of the failed first side) from an answer's trailing metadata."""
    held = {name: value for name, value in metadata or () if isinstance(value, str)}
    return held.get(ANSWERED_BY, ""), held.get(FALLBACK, "")


def _named(error: MeshfoldError, side: str) -> MeshfoldError:
    """The error with the side that raised it, for a server in front of a mesh."""
    if not side:
        return error
    if isinstance(error, InvalidQuery):
        return InvalidQuery(error.path, f"{error.message} (answered by the {side})")
    return type(error)(f"{error} (answered by the {side})")
