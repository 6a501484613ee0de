"""Who is asked: servers, mostly as processes of their own, called through the stubs of mesh.v1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import grpc

from meshfold.commands.__main__ import ADAPTERS
from meshfold.compat.mesh.server import MeshServer
from meshfold.compat.mesh.settings import ORCHESTRATOR, RETRIEVAL, SCORING, TOWER, MeshConfig
from meshfold.protos.mesh.v1 import (
    orchestrator_pb2_grpc,
    retrieval_pb2_grpc,
    scoring_pb2_grpc,
    user_tower_pb2_grpc,
)
from meshfold.service.config import ServerConfig
from meshfold.service.server import Server

MODEL, MESH = "model", "mesh"
# So long may a call take on a machine with other work.
TIMEOUT_S = 30.0
# The command, where the folder that tests run in holds packages of the same names.
_COMMAND = [sys.executable, "-P", "-m", "meshfold.commands"]


@dataclass(frozen=True)
class Target:
    """channels: by the name of a service of mesh.v1. The calls are gRPC's own callables."""

    name: str
    # Of the orchestrator.
    address: str
    channels: Mapping[str, grpc.Channel]
    retrieve: Any
    embed: Any
    search: Any
    score: Any

    @classmethod
    def at(cls, name: str, orchestrator: str, tower: str, retrieval: str, scoring: str) -> Self:
        """Addresses of the four services."""
        # No reader of the largest answers is to fail by its own limit.
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        channels = {
            service: grpc.insecure_channel(address, options)
            for service, address in (
                ("OrchestratorService", orchestrator),
                ("UserTowerService", tower),
                ("RetrievalService", retrieval),
                ("ScoringService", scoring),
            )
        }
        # Generated stubs have no types.
        orchestrator_stub: Any = orchestrator_pb2_grpc.OrchestratorServiceStub
        tower_stub: Any = user_tower_pb2_grpc.UserTowerServiceStub
        retrieval_stub: Any = retrieval_pb2_grpc.RetrievalServiceStub
        scoring_stub: Any = scoring_pb2_grpc.ScoringServiceStub
        return cls(
            name,
            orchestrator,
            channels,
            orchestrator_stub(channels["OrchestratorService"]).Retrieve,
            tower_stub(channels["UserTowerService"]).Embed,
            retrieval_stub(channels["RetrievalService"]).Search,
            scoring_stub(channels["ScoringService"]).Score,
        )

    def close(self) -> None:
        for channel in self.channels.values():
            channel.close()


@contextmanager
def model(store: Path) -> Iterator[Target]:
    """`meshfold serve`: one port for all."""
    with _process("serve", "--store", str(store), "--address", "127.0.0.1:0") as process:
        line = process.stdout.readline() if process.stdout else ""
        address = line.removeprefix("listening on ").partition(",")[0]
        target = Target.at(MODEL, address, address, address, address)
        yield target
        target.close()


@contextmanager
def mesh(store: Path) -> Iterator[Target]:
    """`meshfold mesh up`: four processes, whose search compares every vector."""
    words = ("mesh", "up", "--store", str(store), "--address", "127.0.0.1:0", "--exact", "--json")
    with _process(*words) as process:
        told = json.loads(process.stdout.readline() if process.stdout else "")
        services = ("orchestrator", "tower", "retrieval", "scoring")
        target = Target.at(MESH, *(told[service]["address"] for service in services))
        yield target
        target.close()


TARGETS = {MODEL: model, MESH: mesh}


@contextmanager
def within(store: Path) -> Iterator[dict[str, Target]]:
    """Both in this process, which starts them in a tenth of the time."""
    config = ServerConfig(address="127.0.0.1:0", store=store, shutdown_grace_s=1.0, queue_s=60.0)
    with ExitStack() as stack:

        def started(server: Server | MeshServer) -> str:
            server.start()
            stack.callback(server.stop)
            return server.address

        address = started(Server(config, ADAPTERS))
        of = MeshConfig(exact=True)
        parts: dict[str, Any] = {
            name: started(MeshServer(name, config, of)) for name in (TOWER, RETRIEVAL, SCORING)
        }
        orchestrator = started(MeshServer(ORCHESTRATOR, config, replace(of, **parts)))
        targets = {
            MODEL: Target.at(MODEL, address, address, address, address),
            MESH: Target.at(MESH, orchestrator, parts[TOWER], parts[RETRIEVAL], parts[SCORING]),
        }
        yield targets
        for target in targets.values():
            target.close()


@contextmanager
def _process(*words: str) -> Iterator[subprocess.Popen[str]]:
    # One thread each: those that wait for one another on busy cores take ten times as long.
    # And none refuses a call because it would wait for long: every call here has time.
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "MESHFOLD_QUEUE_S": "60"}
    with subprocess.Popen([*_COMMAND, *words], stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(30) == 0
