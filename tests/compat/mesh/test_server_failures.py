"""Services of the mesh that publish anew, fail, hang, crash or are asked for much: real servers and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest

from meshfold.compat.mesh.server import MeshServer
from meshfold.compat.mesh.settings import RETRIEVAL, SCORING, TOWER, MeshConfig
from meshfold.model.errors import InvalidConfig
from meshfold.model.limits import Limits
from meshfold.service.config import ServerConfig
from tests.compat.mesh.mesh_world import Request, StartMesh, ask, request_of, start_mesh, status, whole

__all__ = ["start_mesh", "whole"]


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
