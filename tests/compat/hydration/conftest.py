"""Files and a Redis of users, and servers that fill requests in from them."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.commands.__main__ import ADAPTERS
from meshfold.compat.hydration.hydration import open_hydration
from meshfold.protos.mesh.v1 import orchestrator_pb2 as mesh
from meshfold.service.config import ServerConfig
from meshfold.service.front import Distribution
from meshfold.service.server import Server
from tests.service.conftest import publish_items, store
from tests.waiting import wait_until

__all__ = ["publish_items", "store"]

METHOD = "/mesh.v1.OrchestratorService/Retrieve"
# Items of the shop that the users below met.
HISTORIES = {7: [11, 14, 200], 8: [301, 304], 9: []}
# A feature that the shop's model takes: the query vector itself.
VECTOR = [0.5, -1.0, 0.25, 1.0, 0.5, 0.0, 1.0, -0.5]
FEATURES: Any = {"query_vector": {"floats": {"values": VECTOR}}}


def write_users(path: Path, histories: Mapping[int, list[int]], **columns: Any) -> None:
    """A Parquet file of users, put in place of the last."""
    new = path.with_suffix(".new")
    columns = {"history": pa.array(list(histories.values()), pa.list_(pa.int64())), **columns}
    pq.write_table(pa.table({"user_id": list(histories), **columns}), new)
    new.replace(path)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.parquet"
    write_users(path, HISTORIES)
    return path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """(store folder, TOML of [hydrate.shop], more settings of the server) -> a running server."""
    servers: list[Server] = []

    def serve(store: Path, toml: str, connect_front: Any = None, **given: Any) -> Server:
        file = tmp_path / f"hydrate{len(servers)}.toml"
        file.write_text(f"[hydrate.shop]\n{toml}\n")
        settings = {"address": "127.0.0.1:0", "queue_s": 60.0, "shutdown_grace_s": 5.0, **given}
        config = ServerConfig(store=store, hydrate=str(file), **settings)
        server = Server(config, ADAPTERS, connect_front, open_hydration=open_hydration)
        servers.append(server)
        server.start()
        return server

    yield serve
    for server in servers:
        server.stop()


@pytest.fixture
def expected(store: Path) -> Iterator[Callable[..., list[int]]]:
    """(a user of mesh.v1 in words) -> the items that a server without hydration answers with."""
    server = Server(ServerConfig(address="127.0.0.1:0", store=store, queue_s=60.0), ADAPTERS)
    server.start()
    yield lambda **user: ask(server, **user)
    server.stop()


def ask(server: Server, timeout_s: float = 10.0, **user: Any) -> list[int]:
    """The item ids of an answer by mesh.v1."""
    request = mesh.RetrieveRequest(surface="shop", max_results=10, user=user)
    with grpc.insecure_channel(server.address) as channel:
        reply = channel.unary_unary(METHOD)(request.SerializeToString(), timeout=timeout_s)
    return [candidate.item_id for candidate in mesh.RetrieveResponse.FromString(reply).candidates]


def counted(server: Server, name: str, **labels: str) -> float:
    """The sum of what the server shows under a name."""
    return sum(
        sample.value
        for sample in server._samples()
        if not isinstance(sample, Distribution)
        and sample.name == name
        and all(sample.labels.get(key) == value for key, value in labels.items())
    )


class RedisProcess:
    """A redis-server on a port of its own. client: a blocking one."""

    def __init__(self, program: str, folder: Path) -> None:
        import redis

        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"]
        self.client: Any = redis.Redis(port=self.port)
        self._unreachable = redis.RedisError
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(self._answers)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def close(self) -> None:
        self.client.close()
        self.stop()

    def _answers(self) -> bool:
        assert self._process.poll() is None
        with suppress(self._unreachable):
            return bool(self.client.ping())
        return False


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisProcess]:
    pytest.importorskip("redis")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    process = RedisProcess(program, tmp_path)
    yield process
    process.close()
