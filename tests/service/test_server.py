from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from meshfold.compat import meshfold_v1
from meshfold.compat.client import Client, encode_request
from meshfold.model.errors import InvalidConfig, MeshfoldError
from meshfold.model.types import Query
from meshfold.service.config import ServerConfig
from meshfold.service.server import Server
from tests.waiting import wait_until

Publish = Callable[..., Path]
Start = Callable[..., Server]
RETRIEVING = ("mesh.v1.OrchestratorService", "meshfold.v1.RetrievalService")
BEHIND = ("mesh.v1.UserTowerService", "mesh.v1.RetrievalService", "mesh.v1.ScoringService")
SERVICES = ("", *RETRIEVING, *BEHIND)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health(channel: grpc.Channel) -> set[int]:
    """The states of all services."""
    check = health_pb2_grpc.HealthStub(channel).Check
    return {check(health_pb2.HealthCheckRequest(service=service)).status for service in SERVICES}


@pytest.fixture
def channel(served: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.address) as channel:
        yield channel


def test_a_server_is_healthy_once_something_is_published(
    start: Start, tmp_path: Path, publish_items: Publish
) -> None:
    server = start(tmp_path)
    with grpc.insecure_channel(server.address) as channel:
        assert health(channel) == {NOT_SERVING}
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(meshfold_v1.METHOD)(encode_request(Query("shop", 5)))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        publish_items(tmp_path)
        wait_until(lambda: health(channel) == {SERVING})
        assert channel.unary_unary(meshfold_v1.METHOD)(encode_request(Query("shop", 5)))


@pytest.mark.parametrize("service", RETRIEVING)
def test_a_client_that_has_only_reflection_can_ask(channel: grpc.Channel, service: str) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) >= {*SERVICES[1:], "grpc.health.v1.Health"}
    pool = DescriptorPool(database)
    method = pool.FindServiceByName(service).FindMethodByName("Retrieve")
    request = GetMessageClass(method.input_type)(surface="shop", max_results=3)
    message = channel.unary_unary(f"/{service}/Retrieve")(request.SerializeToString())
    response = GetMessageClass(method.output_type).FromString(message)
    assert list(response.tasks) == ["like", "watch"]


def test_a_method_that_is_not_there(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/mesh.v1.OrchestratorService/Delete")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_above_the_limit_is_refused_and_the_next_is_answered(store: Path, start: Start) -> None:
    server = start(store, max_message_bytes=1000)
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(meshfold_v1.METHOD)
        with pytest.raises(grpc.RpcError) as caught:
            call(encode_request(Query("shop", 5, history=np.arange(1000))))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert call(encode_request(Query("shop", 5)))


def test_a_port_in_use_is_an_error_with_a_remedy(served: Server, store: Path) -> None:
    with pytest.raises(InvalidConfig, match=f"cannot listen on {served.address}.*--address"):
        Server(ServerConfig(store=store, address=served.address), (meshfold_v1,))


def test_a_server_listens_on_a_unix_socket(store: Path, start: Start, tmp_path: Path) -> None:
    server = start(store, address=f"unix:{tmp_path}/socket")
    with Client(server.address) as client:
        assert len(client.retrieve(Query("shop", 5)).item_ids) == 5


def test_a_new_version_replaces_the_old_between_requests(
    start: Start, tmp_path: Path, publish_items: Publish
) -> None:
    """Every answer under load is wholly of one version, no request fails, and no caller goes back."""
    publish_items(tmp_path, seed=0)
    server = start(tmp_path)
    stop = threading.Event()
    titles: dict[str, set[str]] = {}

    def seen(version: str) -> bool:
        return any(v.startswith(version) for v in list(titles))

    def ask(client: Client) -> list[str]:
        versions: list[str] = []
        while not stop.is_set():
            answer = client.retrieve(Query("shop", 20, history=np.array([10]), fields=("title",)))
            versions.append(answer.version)
            titles.setdefault(answer.version, set()).update(
                str(title).split(".")[0] for title in answer.fields["title"].values
            )
        return versions

    with Client(server.address) as client, ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(ask, client) for _ in range(4)]
        try:
            for seed in range(1, 4):
                folder = publish_items(tmp_path, seed=seed)
                version = folder.name.rpartition("-")[2]
                wait_until(partial(seen, version))
        finally:
            stop.set()
        for caller in callers:
            versions = caller.result(10)
            changes = sum(a != b for a, b in zip(versions, versions[1:], strict=False))
            assert changes == len(set(versions)) - 1
    assert sorted(titles.values()) == [{f"shop {seed}"} for seed in range(4)]


def test_a_stop_ends_what_is_in_flight(store: Path, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = start(store)
    message = encode_request(Query("shop", 400, history=np.array([10]), fields=("*",)))
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(meshfold_v1.METHOD)
        expected = call(message)
        calls = [call.future(message) for _ in range(50)]
        wait_until(calls[0].done)
        server.stop()
        assert {c.result(10) for c in calls} == {expected}
        with pytest.raises(grpc.RpcError) as caught:
            call(message)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    told = [record.message for record in caplog.records if record.message.startswith("stop")]
    assert re.fullmatch(rf"stopping: address={server.address} grace_s=[\d.]+ calls=\d+", told[0])
    assert re.fullmatch(r"stopped: took_s=\d+\.\d cancelled=0", told[1])


def test_a_stop_is_over_within_its_grace_though_callers_go_on(store: Path, start: Start) -> None:
    server = start(store, shutdown_grace_s=1.0)
    stopped = threading.Event()

    def ask(client: Client) -> None:
        while not stopped.is_set():
            with suppress(MeshfoldError):
                client.retrieve(Query("shop", 5))

    with Client(server.address) as client, ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(ask, client)
        start_s = time.monotonic()
        server.stop()
        took_s = time.monotonic() - start_s
        stopped.set()
    assert took_s < 5


def test_a_stop_under_load_tells_callers_to_ask_another_and_cancels_no_call(
    store: Path, start: Start
) -> None:
    server = start(store, shutdown_grace_s=3.0)
    message = encode_request(Query("shop", 100, history=np.array([10])))
    ended: list[grpc.StatusCode] = []
    answered = threading.Semaphore(0)

    def ask(channel: grpc.Channel) -> None:
        """Until it is told to go elsewhere."""
        call = channel.unary_unary(meshfold_v1.METHOD)
        while True:
            try:
                call(message, timeout=10)
            except grpc.RpcError as error:
                ended.append(error.code())
                return
            answered.release()

    with grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(16) as pool:
        callers = [pool.submit(ask, channel) for _ in range(16)]
        for _ in range(32):
            assert answered.acquire(timeout=10)
        server.stop()
        for caller in callers:
            caller.result(10)
    assert ended == [grpc.StatusCode.UNAVAILABLE] * 16


def test_a_server_that_never_started_stops(store: Path) -> None:
    before = set(threading.enumerate())
    server = Server(ServerConfig(address="127.0.0.1:0", store=store), (meshfold_v1,))
    server.stop()
    server.stop()
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("meshfold-loop")]


WITHOUT = """
import sys
for name in ("grpc_health", "grpc_reflection", "rich", "celpy", "pyarrow", "scipy"):
    sys.modules[name] = None
import logging
logging.basicConfig(format="%(message)s")
from contextlib import suppress
from functools import partial
from pathlib import Path
from meshfold.compat import mesh_v1, meshfold_v1
from meshfold.compat.client import Client
from meshfold.model.types import Query
from meshfold.service.config import ServerConfig
from meshfold.service.server import Server
server = Server(ServerConfig(address="127.0.0.1:0", store=Path(sys.argv[1])), (meshfold_v1, *mesh_v1.ADAPTERS))
server.start()
with Client(server.address) as client:
    print(len(client.retrieve(Query("shop", 7)).item_ids))
server.stop()
"""


def test_the_request_path_needs_no_optional_package(store: Path) -> None:
    run: Any = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(store)], capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout) == (0, "7\n"), run.stderr
    assert "pip install grpcio-health-checking" in run.stderr
    assert "pip install grpcio-reflection" in run.stderr
