"""The mesh beside the model, over the same snapshots: real servers, and the mesh's own messages between them."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import pytest

from meshfold.compat.filters import encode_filter
from meshfold.compat.mesh.server import MeshServer
from meshfold.compat.mesh.settings import ORCHESTRATOR, RETRIEVAL, SCORING, TOWER, MeshConfig
from meshfold.compat.mesh_v1 import embed, retrieve, score, search
from meshfold.model.errors import InvalidConfig
from meshfold.model.filter.text import parse_filter
from meshfold.model.limits import Limits
from meshfold.protos.mesh.v1 import orchestrator_pb2, retrieval_pb2, scoring_pb2, user_tower_pb2
from meshfold.service.config import ServerConfig
from meshfold.service.server import Server

Build = Callable[..., Path]
Request = orchestrator_pb2.RetrieveRequest
Response = orchestrator_pb2.RetrieveResponse
# Of build_shop: more than any search leaves out, so that both sides have the same candidates.
ITEMS, D, T = 1500, 16, 2
FILTERS = ("", 'language in ["de", "es"]', 'year >= 1990 && !("t3" in tags)', "price < 0.2", "year == 1")
# float32 sums on one side, integers on the other.
CLOSE = 1e-3


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


def same(mesh: Response, model: Response, similarities: float = CLOSE) -> None:
    """Equal but for the order of values that are closer than CLOSE. similarities: how close those are, of the largest
    one: rounding to 16 bits is relative to the vectors' lengths."""
    assert list(mesh.tasks) == list(model.tasks)
    assert mesh.request_id == model.request_id
    assert len(mesh.candidates) == len(model.candidates)
    scale = max([1.0, *(abs(c.similarity) for c in model.candidates)])
    ours = {c.item_id: c for c in mesh.candidates}
    for a, b in zip(mesh.candidates, model.candidates, strict=True):
        assert a.item_id == b.item_id or abs(a.value - b.value) < CLOSE * scale
        if b.item_id not in ours:
            # A tie at the cut.
            assert abs(b.value - model.candidates[-1].value) < CLOSE * scale
            continue
        a = ours[b.item_id]
        assert abs(a.similarity - b.similarity) < similarities * scale
        np.testing.assert_allclose([a.value, *a.task_scores], [b.value, *b.task_scores], atol=CLOSE * scale)


@pytest.fixture(scope="module")
def whole(build_shop: Build) -> Path:
    """The store of a snapshot with towers, OverArch and formulas."""
    return build_shop(user_tower="User", over_arch="Rank").parent.parent


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "ivf"])
def test_mesh_and_model_give_equal_answers_from_equal_weights(
    whole: Path, start: Callable[..., Server], start_mesh: StartMesh, exact: bool
) -> None:
    model, mesh = start(whole).address, start_mesh(whole, exact=exact).address
    for seed in range(24):
        # The mesh tells the similarities that it searched by: where it does not compare exactly they are of 8 bits.
        same(ask(mesh, request_of(seed)), ask(model, request_of(seed)), CLOSE if exact else math.inf)


def test_snapshots_without_programs_are_equal_too(
    store: Path, start: Callable[..., Server], start_mesh: StartMesh
) -> None:
    model, mesh = start(store).address, start_mesh(store, exact=True).address
    for seed in range(6):
        request = Request(surface="", max_results=50)
        request.user.history.extend(range(10, 10 + seed * 9))
        if seed == 4:
            request.task_weights["watch"] = 0.5
        same(ask(mesh, request), ask(model, request))


def test_bad_requests_get_the_models_own_statuses(
    whole: Path, start: Callable[..., Server], start_mesh: StartMesh
) -> None:
    model, mesh = start(whole).address, start_mesh(whole, exact=True).address
    bad = {
        name: request_of(3)
        for name in ("surface", "formula", "field", "results", "input", "vector", "weight")
    }
    bad["surface"].surface = "shoppe"
    bad["formula"].value_formula = "cheep"
    bad["field"].filter.all.filters.add().range.field = "language"
    bad["results"].max_results = 0
    bad["input"].user.features["country"].ints.values.append(3)
    bad["vector"].user.features["query_vector"].floats.values.append(3.0)
    bad["weight"].task_weights["like"] = 7.0
    for request in bad.values():
        assert status(mesh, request) == status(model, request)


def test_every_service_answers_as_the_model_does(
    whole: Path, start: Callable[..., Server], start_mesh: StartMesh
) -> None:
    model, mesh = start(whole).address, start_mesh(whole, exact=True)
    user = request_of(7).user
    vectors = np.random.default_rng(1).standard_normal((2, D)).astype(np.float32).tolist()
    calls: list[tuple[str, Any, Any, Any]] = [
        (
            TOWER,
            embed,
            user_tower_pb2.EmbedRequest(users=[user, request_of(4).user, {}]),
            user_tower_pb2.EmbedResponse,
        ),
        (TOWER, embed, user_tower_pb2.EmbedRequest(), user_tower_pb2.EmbedResponse),
        (
            RETRIEVAL,
            search,
            retrieval_pb2.SearchRequest(queries=[{"values": v} for v in vectors], k=30),
            retrieval_pb2.SearchResponse,
        ),
        (
            RETRIEVAL,
            search,
            retrieval_pb2.SearchRequest(queries=[{"values": [0] * D}], k=30),
            retrieval_pb2.SearchResponse,
        ),
        (RETRIEVAL, search, retrieval_pb2.SearchRequest(k=30), retrieval_pb2.SearchResponse),
        (
            SCORING,
            score,
            scoring_pb2.ScoreRequest(user=user, item_ids=[8, 6, 5, 8, 11]),
            scoring_pb2.ScoreResponse,
        ),
        (SCORING, score, scoring_pb2.ScoreRequest(), scoring_pb2.ScoreResponse),
    ]
    for name, adapter, request, response in calls:
        answers = []
        for address in (mesh.servers[name].address, model):
            with grpc.insecure_channel(address) as channel:
                answers.append(
                    response.FromString(channel.unary_unary(adapter.METHOD)(request.SerializeToString()))
                )
        ours, theirs = (numbers_of(answer) for answer in answers)
        assert ours.keys() == theirs.keys()
        for field in ours:
            np.testing.assert_allclose(ours[field], theirs[field], atol=CLOSE, err_msg=f"{name} {field}")


def numbers_of(message: Any) -> dict[str, list[Any]]:
    """Every number of a message by the path of its field; texts are hashed."""
    found: dict[str, list[Any]] = {}

    def walk(path: str, value: Any) -> None:
        if hasattr(value, "ListFields"):
            for field, inner in value.ListFields():
                walk(f"{path}.{field.name}", inner)
        elif isinstance(value, str):
            found.setdefault(path, []).append(hash(value))
        elif isinstance(value, int | float):
            found.setdefault(path, []).append(value)
        else:
            for inner in value:
                walk(path, inner)

    walk("", message)
    return found


def test_each_service_has_a_version_of_its_own_and_answers_name_it(
    tmp_path: Path, publish_items: Callable[..., Path], start_mesh: StartMesh
) -> None:
    old, new = publish_items(tmp_path / "old"), publish_items(tmp_path / "new", seed=1)
    mesh = start_mesh(tmp_path / "old", {TOWER: tmp_path / "new"}, exact=True)
    request = Request(max_results=5)
    request.user.history.append(12)
    versions = ask(mesh.address, request).versions
    assert versions.user_tower.startswith(new.name.rpartition("-")[2])
    for version in (versions.index, versions.filter, versions.scoring):
        assert version.startswith(old.name.rpartition("-")[2])


def test_services_that_do_not_fit_one_another_are_no_fault_of_the_caller(
    store: Path, whole: Path, start_mesh: StartMesh
) -> None:
    """The shop with 16 dimensions in front of the one with 8."""
    mesh = start_mesh(whole, {RETRIEVAL: store}, exact=True)
    code, details = status(mesh.address, request_of(7))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "retrieval refuses what the user tower gave: queries[0]: has 16 values; expected 8" in details


def test_a_service_publishes_anew_by_itself(
    tmp_path: Path, publish_items: Callable[..., Path], start_mesh: StartMesh
) -> None:
    publish_items(tmp_path)
    mesh = start_mesh(tmp_path, exact=True)
    request = Request(max_results=5)
    request.user.history.append(12)
    before = ask(mesh.address, request).versions
    publish_items(tmp_path, seed=1)
    for _ in range(1000):
        after = ask(mesh.address, request).versions
        if before.index not in (after.user_tower, after.index, after.scoring):
            break
    assert after.user_tower == after.index == after.scoring != before.index


def test_an_explained_answer_tells_of_each_step(whole: Path, start_mesh: StartMesh) -> None:
    mesh = start_mesh(whole, exact=True)
    request = request_of(7)
    assert not ask(mesh.address, request).explain
    request.explain = True
    explain = ask(mesh.address, request).explain
    assert explain["user"] == "known"
    assert {"embed_ms", "search_ms", "score_ms", "candidates"} <= explain.keys()


Process = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def process(whole: Path) -> Iterator[Process]:
    """(service, address="127.0.0.1:0") -> a process of `meshfold mesh run` and its address."""
    processes: list[subprocess.Popen[str]] = []

    def process(service: str, address: str = "127.0.0.1:0") -> tuple[subprocess.Popen[str], str]:
        flags = ["--store", str(whole), "--address", address, "--exact"]
        started = subprocess.Popen(
            [sys.executable, "-m", "meshfold.commands", "mesh", "run", service, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        processes.append(started)
        assert started.stdout is not None
        return started, started.stdout.readline().split()[3].rstrip(",")

    yield process
    for started in processes:
        started.send_signal(signal.SIGCONT)
        started.kill()
        started.communicate()


def test_a_service_that_hangs_or_crashes_is_named(
    whole: Path, start_mesh: StartMesh, process: Process
) -> None:
    child, address = process(RETRIEVAL)
    mesh = start_mesh(whole, exact=True, retrieval=address, timeout_s=0.5)
    request = request_of(7)
    assert ask(mesh.address, request).candidates

    child.send_signal(signal.SIGSTOP)
    code, details = status(mesh.address, request)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert details == f"retrieval at {address} did not answer within 0.5 s"
    # The caller's own deadline, where it is earlier; the service's name arrives before it passes.
    code, details = status(mesh.address, request, timeout_s=0.3)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    child.send_signal(signal.SIGCONT)
    assert ask(mesh.address, request).candidates

    child.kill()
    child.wait()
    code, details = status(mesh.address, request)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert details.startswith(f"retrieval at {address} is unavailable: ")

    process(RETRIEVAL, address)
    for _ in range(100):
        try:
            assert ask(mesh.address, request).candidates
            break
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            signal.sigtimedwait([], 0.05)
    else:
        pytest.fail("the orchestrator did not find the service again")


def test_limits_behind_an_orchestrator_take_all_that_it_takes(whole: Path, start_mesh: StartMesh) -> None:
    mesh = start_mesh(whole, exact=True)
    request = request_of(7)
    request.max_results = Limits().max_results
    del request.user.history[:], request.excluded_item_ids[:]
    request.user.history.extend(range(10**6, 10**6 + Limits().max_history))
    request.excluded_item_ids.extend(range(2 * 10**6, 2 * 10**6 + Limits().max_excluded))
    assert ask(mesh.address, request).candidates


def test_a_service_shows_what_it_serves_to_prometheus(whole: Path) -> None:
    config = ServerConfig(address="127.0.0.1:0", metrics_address="127.0.0.1:0", store=whole)
    server = MeshServer(SCORING, config, MeshConfig())
    try:
        server.start()
        with urlopen(f"http://{server.metrics_address}/metrics", timeout=10) as response:
            shown = response.read().decode()
    finally:
        server.stop()
    assert 'meshfold_served{surface="shop",version="' in shown
    assert 'meshfold_queue{lane="callers"} 0.0' in shown


def test_a_service_that_cannot_listen_leaves_no_thread(whole: Path, start_mesh: StartMesh) -> None:
    taken = start_mesh(whole, exact=True).servers[TOWER].address
    before = set(threading.enumerate())
    with pytest.raises(InvalidConfig, match=f"cannot listen on {taken}.*--address"):
        MeshServer(TOWER, ServerConfig(address=taken, store=whole), MeshConfig())
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not [name for name in left if name.startswith("meshfold-")]
