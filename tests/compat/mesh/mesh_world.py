"""A mesh in this process, and requests of every kind to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from meshfold.compat.filters import encode_filter
from meshfold.compat.mesh.server import MeshServer
from meshfold.compat.mesh.settings import ORCHESTRATOR, RETRIEVAL, SCORING, TOWER, MeshConfig
from meshfold.compat.mesh_v1 import retrieve
from meshfold.model.filter.text import parse_filter
from meshfold.protos.mesh.v1 import orchestrator_pb2
from meshfold.service.config import ServerConfig

Build = Callable[..., Path]
Request = orchestrator_pb2.RetrieveRequest
Response = orchestrator_pb2.RetrieveResponse
# Of build_shop: more than any search leaves out, so that both sides have the same candidates.
ITEMS, D, T = 1500, 16, 2
FILTERS = ("", 'language in ["de", "es"]', 'year >= 1990 && !("t3" in tags)', "price < 0.2", "year == 1")


class Mesh:
    """The four services in this process. address: of the orchestrator."""

    def __init__(self, indices: Path) -> None:
        self.servers: dict[str, MeshServer] = {}
        self._indices = indices

    def start(self, store: Path, stores: dict[str, Path] | None = None, **settings: Any) -> Mesh:
        for name in (TOWER, RETRIEVAL, SCORING):
            if name not in settings:
                self.servers[name] = self._server(
                    name, (stores or {}).get(name, store), MeshConfig(**given(settings))
                )
                settings[name] = self.servers[name].address
        of = MeshConfig(indices=self._indices, **settings)
        self.servers[ORCHESTRATOR] = self._server(ORCHESTRATOR, store, of)
        return self

    def _server(self, name: str, store: Path, of: MeshConfig) -> MeshServer:
        config = ServerConfig(address="127.0.0.1:0", store=store, poll_interval_s=0.05, shutdown_grace_s=1.0)
        server = MeshServer(name, config, replace(of, indices=self._indices))
        server.start()
        return server

    @property
    def address(self) -> str:
        return self.servers[ORCHESTRATOR].address

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop()


def given(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in (TOWER, RETRIEVAL, SCORING)}


StartMesh = Callable[..., Mesh]


@pytest.fixture
def start_mesh(tmp_path: Path) -> Iterator[StartMesh]:
    """(store, stores={service: store}, **MeshConfig) -> a mesh in this process; addresses given are not started."""
    started: list[Mesh] = []

    def start_mesh(*args: Any, **settings: Any) -> Mesh:
        mesh = Mesh(tmp_path / "indices")
        started.append(mesh)
        return mesh.start(*args, **settings)

    yield start_mesh
    for mesh in started:
        mesh.stop()


def ask(address: str, request: Request, timeout_s: float | None = None) -> Response:
    with grpc.insecure_channel(address) as channel:
        answer = channel.unary_unary(retrieve.METHOD)(request.SerializeToString(), timeout=timeout_s)
    response: Response = Response.FromString(answer)
    return response


def status(address: str, request: Request, timeout_s: float | None = None) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        ask(address, request, timeout_s)
    return caught.value.code(), caught.value.details()


def request_of(seed: int) -> Request:
    """Users of every kind, unknown ones too; every filter and formula."""
    rng = np.random.default_rng(seed)
    request = Request(request_id=f"r{seed}", surface="shop", max_results=(1, 7, 100, 1100)[seed % 4])
    request.user.history.extend(rng.integers(0, ITEMS * 3, (seed * 11) % 150).tolist())
    if seed % 2:
        request.user.features["country"].strings.values.append(f"c{seed}")
        request.user.features["clock"].floats.values.extend(rng.random(2).tolist())
    if seed % 5 == 0:
        request.user.features["query_vector"].floats.values.extend(
            rng.standard_normal(T * D if seed % 10 else D).tolist()
        )
    if FILTERS[seed % len(FILTERS)]:
        encode_filter(parse_filter(FILTERS[seed % len(FILTERS)]), request.filter)
    request.excluded_item_ids.extend(range(5, 5 + 60 * seed, 3))
    request.value_formula = ("", "cheap", "similarity", "recent")[seed % 4]
    if request.value_formula == "":
        request.task_weights["like"] = 0.1 * seed
    return request


@pytest.fixture(scope="module")
def whole(build_shop: Build) -> Path:
    """The store of a snapshot with towers, OverArch and formulas."""
    return build_shop(user_tower="User", over_arch="Rank").parent.parent
