"""A mesh that does as it is told, and servers in front of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.commands.__main__ import ADAPTERS
from meshfold.compat import mesh_v1
from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.migration.front import Front
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.config import ServerConfig
from meshfold.service.front import Answered, Outcome
from meshfold.service.migration import MigrationConfig
from meshfold.service.server import Server
from tests.service.conftest import publish_items, store

__all__ = ["publish_items", "store"]


@dataclass
class Received:
    """A call as the mesh saw it. ended: set when the call is over for it."""

    message: bytes
    metadata: dict[str, Any]
    left_s: float
    ended: threading.Event = field(default_factory=threading.Event)


# Of a mesh and a caller that allow more metadata than gRPC does by default.
MUCH_METADATA = (("grpc.max_metadata_size", 8 << 20), ("grpc.absolute_max_metadata_size", 8 << 20))


class ToldMesh:
    """A gRPC server of mesh.v1 that does what a call's metadata say.

    x-code, x-details, x-status: a status, its text and its details. x-wait-s: how long it takes. x-initial-bytes,
    x-trailing-bytes: of metadata that it sends. x-answer-bin: what it answers, x-again-bin: when it is asked again.
    Without, it answers b"mesh " + the request.
    """

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self.calls: list[Received] = []
        self._server: grpc.Server | None = None
        self.address = address
        self.start()

    def start(self) -> None:
        """On the same port again, if it was stopped."""
        handler = grpc.unary_unary_rpc_method_handler(self._answer)
        names = [adapter.METHOD.split("/")[1:] for adapter in mesh_v1.ADAPTERS]
        self._server = grpc.server(
            ThreadPoolExecutor(8),
            handlers=[
                grpc.method_handlers_generic_handler(service, {method: handler}) for service, method in names
            ],
            options=[("grpc.so_reuseport", 0), *MUCH_METADATA],
        )
        port = self._server.add_insecure_port(self.address)
        if not self.address.startswith("unix:"):
            self.address = f"{self.address.rpartition(':')[0]}:{port}"
        self._server.start()

    def stop(self) -> None:
        assert self._server is not None
        self._server.stop(None).wait()

    def _answer(self, message: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        call = Received(message, metadata, context.time_remaining())
        self.calls.append(call)
        if not context.add_callback(call.ended.set):
            call.ended.set()
        initial: list[tuple[str, str | bytes]] = [
            ("x-initial", "from the mesh"),
            ("x-initial-bin", b"\x00\xff"),
        ]
        if "x-initial-bytes" in metadata:
            initial.append(("x-much", "i" * int(metadata["x-initial-bytes"])))
        context.send_initial_metadata(tuple(initial))
        trailing: list[tuple[str, str | bytes]] = [("x-trailing", "also")]
        if "x-trailing-bytes" in metadata:
            trailing.append(("x-much", "t" * int(metadata["x-trailing-bytes"])))
        if "x-status-bin" in metadata:
            trailing.append(("grpc-status-details-bin", metadata["x-status-bin"]))
        context.set_trailing_metadata(tuple(trailing))
        if "x-wait-s" in metadata:
            call.ended.wait(float(metadata["x-wait-s"]))
        if "x-compressed" in metadata:
            context.set_compression(grpc.Compression.Gzip)
        if "x-code" in metadata:
            context.abort(grpc.StatusCode[metadata["x-code"]], metadata["x-details-bin"].decode())
        if "x-again-bin" in metadata and "meshfold-again" in metadata:
            return bytes(metadata["x-again-bin"])
        return bytes(metadata.get("x-answer-bin", b"mesh " + message))


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.answers: list[Answered] = []
        self.shadows: list[tuple[Answered, Outcome]] = []

    def answered(self, answered: Answered) -> None:
        self.answers.append(answered)

    def shadowed(self, answered: Answered, shadow: Outcome) -> None:
        self.shadows.append((answered, shadow))


@pytest.fixture
def mesh() -> Iterator[ToldMesh]:
    mesh = ToldMesh()
    yield mesh
    mesh.stop()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def start(tmp_path: Path, mesh: ToldMesh, seen: Seen) -> Iterator[Callable[..., Server]]:
    """(store folder, server=settings, **settings of migration) -> a server in front of the mesh, observed by `seen`;
    modes are in tmp_path, so that a later server of a test has those of an earlier."""
    servers: list[Server] = []

    def start(root: Path, server: dict[str, Any] | None = None, **settings: Any) -> Server:
        # A busy machine refuses nothing for a wait that a test does not ask about.
        given = {"mesh": mesh.address, "queue_s": 60.0, **(server or {})}
        config = ServerConfig(
            address="127.0.0.1:0",
            store=root,
            poll_interval_s=0.05,
            shutdown_grace_s=5.0,
            migration=MigrationConfig(state=str(tmp_path / "modes.json"), **settings),
            **given,
        )
        started = Server(config, ADAPTERS, lambda c, m, s, others: Front(c, m, s, (*others, seen)))
        servers.append(started)
        started.start()
        return started

    yield start
    for started in servers:
        started.stop()


def request(user_id: int = 0, **fields: Any) -> bytes:
    """The bytes of a request for the shop."""
    given = {"surface": "shop", "max_results": 5, **fields}
    message: bytes = pb.RetrieveRequest(user={"user_id": user_id}, **given).SerializeToString()
    return message


@dataclass
class Got:
    """What a caller got: bytes or a status, and the metadata."""

    message: bytes
    code: grpc.StatusCode
    details: str
    initial: dict[str, Any]
    trailing: dict[str, Any]

    @property
    def side(self) -> str:
        return str(self.trailing["meshfold-answered-by"])


def ask(
    channel: grpc.Channel,
    message: bytes,
    timeout_s: float | None = 10.0,
    method: str = METHOD,
    **metadata: Any,
) -> Got:
    """metadata: with _ for - in names."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
    call: Any
    answer = b""
    try:
        answer, call = channel.unary_unary(method).with_call(message, timeout=timeout_s, metadata=pairs)
    except grpc.RpcError as error:
        call = error
    return Got(
        answer,
        call.code(),
        call.details(),
        dict(call.initial_metadata() or ()),
        dict(call.trailing_metadata() or ()),
    )
