from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from meshfold.commands.__main__ import ADAPTERS
from meshfold.compat import meshfold_v1
from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.migration.client import MigrationClient
from meshfold.model.errors import InvalidConfig
from meshfold.service.config import ServerConfig
from meshfold.service.metrics import Metrics
from meshfold.service.server import Server
from tests.compat.migration.conftest import ToldMesh, ask, mesh, request, seen, start

__all__ = ["mesh", "seen", "start"]
Start = Callable[..., Server]
METRICS = {"metrics_address": "127.0.0.1:0"}


def fetched(address: str) -> dict[tuple[str, ...], float]:
    """Values by name and labels, sorted by the labels' names."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        text = response.read().decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_answers_fallbacks_and_times_are_counted_by_side(start: Start, store: Path, mesh: ToldMesh) -> None:
    server = start(store, METRICS, fallback=True)
    with grpc.insecure_channel(server.address) as channel:
        for _ in range(3):
            ask(channel, request())
        ask(channel, request(), x_code="NOT_FOUND", x_details_bin=b"")
        mesh.stop()
        ask(channel, request())
    found = fetched(server.metrics_address)
    # By code, side, surface.
    assert found["meshfold_answers_total", "OK", "mesh", "shop"] == 3
    assert found["meshfold_answers_total", "NOT_FOUND", "mesh", "shop"] == 1
    assert found["meshfold_answers_total", "OK", "model", "shop"] == 1
    assert found["meshfold_fallbacks_total", "UNAVAILABLE", "model", "shop"] == 1
    assert found["meshfold_answer_seconds_count", "mesh", "shop"] == 4
    assert 0 < found["meshfold_answer_seconds_sum", "model", "shop"] < 10


def test_modes_shadows_and_queues_are_shown(start: Start, store: Path) -> None:
    server = start(store, METRICS, shadow_queue=1, shadow_threads=1)
    client = MigrationClient(server.admin_address)
    client.set("", "serve", 0, "a test", "")
    client.set("shop", "canary", 25, "a test", "")
    found = fetched(server.metrics_address)
    assert found["meshfold_mode", "serve", ""] == 1
    assert found["meshfold_mode", "mesh", ""] == 0
    assert found["meshfold_mode", "canary", "shop"] == 1
    assert found["meshfold_model_percent", "shop"] == 25
    assert found["meshfold_mode_changes_total",] == 2
    client.set("shop", "mirror", 0, "a test", "")
    client.close()
    with grpc.insecure_channel(server.address) as channel:
        asked, dropped, end_s = 0, 0.0, time.monotonic() + 20
        # Calls at once, until one finds no room in the queue.
        while not dropped:
            calls = [channel.unary_unary(METHOD).future(request()) for _ in range(20)]
            asked += len([call.result(timeout=10) for call in calls])
            dropped = fetched(server.metrics_address)["meshfold_shadows_dropped_total",]
            assert time.monotonic() < end_s
        shadowed = ("meshfold_shadows_total", "OK", "model", "shop")
        while (found := fetched(server.metrics_address)).get(shadowed) != asked - dropped:
            assert time.monotonic() < end_s
    assert found["meshfold_shadow_seconds_count", "model", "shop"] == asked - dropped
    assert found["meshfold_shadows_dropped_total",] == dropped
    assert found["meshfold_shadow_queue",] == 0


def test_a_mesh_that_is_down_and_calls_that_wait_for_it_are_shown(
    start: Start, store: Path, mesh: ToldMesh
) -> None:
    server = start(store, METRICS, fallback=True)
    with grpc.insecure_channel(server.address) as channel:
        waiting = channel.unary_unary(METHOD).future(request(), metadata=(("x-wait-s", "20"),))
        end_s = time.monotonic() + 10
        while fetched(server.metrics_address)["meshfold_mesh_waiting",] != 1:
            assert time.monotonic() < end_s
        waiting.cancel()
        assert fetched(server.metrics_address)["meshfold_mesh_down", "shop"] == 0
        mesh.stop()
        for _ in range(8):
            ask(channel, request())
    found = fetched(server.metrics_address)
    assert found["meshfold_mesh_down", "shop"] == 1
    assert found["meshfold_mesh_down", "other"] == 0
    assert found["meshfold_mesh_waiting",] == 0


def test_refused_requests_are_counted(store: Path) -> None:
    # What would wait at all is refused.
    config = ServerConfig(address="127.0.0.1:0", store=store, metrics_address="127.0.0.1:0", queue_s=1e-9)
    server = Server(config, ADAPTERS)
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        calls = [channel.unary_unary(METHOD).future(request()) for _ in range(100)]
        codes = [call.code() for call in calls]
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    found = fetched(server.metrics_address)
    refused = codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert found["meshfold_refused_total", "callers"] + found["meshfold_shed_total", "callers"] == refused
    assert found["meshfold_refused_total", "background"] == 0
    server.stop()


def test_callers_cannot_make_up_labels(start: Start, store: Path) -> None:
    server = start(store, METRICS)
    with grpc.insecure_channel(server.address) as channel:
        for name in range(20):
            ask(channel, request(surface=f"made up {name}"))
    found = fetched(server.metrics_address)
    surfaces = {key[-1] for key in found if key[0] == "meshfold_answers_total"}
    assert surfaces == {"other"}


def test_a_server_without_a_mesh_shows_what_it_serves(store: Path) -> None:
    server = Server(ServerConfig(address="127.0.0.1:0", store=store, metrics_address="127.0.0.1:0"), ())
    server.start()
    found = fetched(server.metrics_address)
    (served,) = [key for key in found if key[0] == "meshfold_served"]
    assert served[1:] == ("shop", server.runners["shop"].version[:12])
    for name in ("meshfold_queue", "meshfold_refused_total", "meshfold_shed_total"):
        assert {lane: found[name, lane] for lane in ("callers", "background")} == {
            "callers": 0,
            "background": 0,
        }
    assert found["meshfold_unread_bytes",] == 0
    server.stop()
    with pytest.raises(OSError, match="refused"):
        fetched(server.metrics_address)


def test_an_address_in_use_is_an_error_with_a_remedy(store: Path) -> None:
    metrics = Metrics()
    address = metrics.listen("127.0.0.1:0")
    with pytest.raises(InvalidConfig, match=f"cannot listen on {address} for metrics: .*--metrics-address"):
        Server(ServerConfig(address="127.0.0.1:0", store=store, metrics_address=address), ())
    metrics.stop()


def test_connections_passed_calls_and_refusals_are_counted(start: Start, store: Path, mesh: ToldMesh) -> None:
    server = start(store, METRICS, fallback=True)
    with grpc.insecure_channel(server.address) as channel:
        embed, nothing = "/mesh.v1.UserTowerService/Embed", "/other.v1.Service/Nothing"
        assert ask(channel, b"", method=embed).side == "mesh"
        assert ask(channel, b"", method=embed, x_code="NOT_FOUND", x_details_bin=b"").side == "mesh"
        assert ask(channel, b"", method=nothing).code is grpc.StatusCode.UNIMPLEMENTED
        assert ask(channel, b"", method=meshfold_v1.METHOD).code is grpc.StatusCode.INVALID_ARGUMENT
        found = fetched(server.metrics_address)
        # By code, method, side.
        assert found["meshfold_other_answers_total", "OK", "Embed", "mesh"] == 1
        assert found["meshfold_other_answers_total", "NOT_FOUND", "Embed", "mesh"] == 1
        assert found["meshfold_other_answers_total", "UNIMPLEMENTED", "passed", "mesh"] == 1
        assert found["meshfold_passed_open",] == 0
        assert found["meshfold_calls_refused_total", "INVALID_ARGUMENT"] == 1
        assert found["meshfold_mesh_connected", mesh.address, "modes"] == 1
        assert found["meshfold_mesh_connected", mesh.address, "passed"] == 1
        assert found["meshfold_swaps_total",] == 1
        mesh.stop()
        for _ in range(10):
            assert ask(channel, request()).side == "model"
    found = fetched(server.metrics_address)
    assert found["meshfold_mesh_connected", mesh.address, "modes"] == 0
    assert found["meshfold_mesh_connections_lost_total", mesh.address, "modes"] == 1
    assert found["meshfold_mesh_downs_total", "shop"] == 1
    assert found["meshfold_mesh_down", "shop"] == 1
