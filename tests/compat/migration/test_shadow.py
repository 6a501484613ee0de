from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.migration.bounded_queue import QUEUE_BYTES
from meshfold.compat.migration.breaker import Breaker
from meshfold.compat.migration.connections import Connections, ConnectionSettings
from meshfold.compat.migration.shadow import Shadow
from meshfold.compat.migration.sides import Mesh, Model
from meshfold.service.call import Call, metadata_bytes
from meshfold.service.event_loop import EventLoop
from meshfold.service.front import Answered, Outcome, Reply, Side
from meshfold.service.migration import MigrationConfig
from tests.compat.migration.conftest import Seen, ToldMesh
from tests.waiting import wait_until


def answered(message: bytes = b"message", side: Side = Side.MODEL) -> Answered:
    outcome = Outcome(side, Reply(b"reply"), grpc.StatusCode.OK, 0.001)
    return Answered(0, "feed", "serve", message, outcome, "", 0.002)


class Shadows:
    """Makes shadows between a mesh and a model, and does with them what a loop may do."""

    def __init__(self, address: str, seen: Seen) -> None:
        self.loop = EventLoop("test-loop")
        breaker = Breaker(MigrationConfig(mesh_timeout_s=20.0, mesh_waiting=100, fallback=True))
        settings = ConnectionSettings((address,), grpc.Compression.NoCompression, 3, 4)
        self._connections = Connections(settings, "test")
        self._mesh = Mesh(self._connections, breaker)
        self._seen = seen
        self._called(self._connections.open)

    def make(self, model: Any = None, start: bool = True, **settings: Any) -> Shadow:
        given = {"queue": 4, "timeout_s": 5.0, "threads": 1, **settings}
        config = MigrationConfig(**{f"shadow_{name}": value for name, value in given.items()})
        sides: dict[Side, Mesh | Model] = {Side.MESH: self._mesh, Side.MODEL: Model({METHOD: model})}
        shadow = self._called(lambda: Shadow(sides, config, self._seen))
        if start:
            self._called(shadow.start)
        assert isinstance(shadow, Shadow)
        return shadow

    def offer(self, shadow: Shadow, told: Answered, *metadata: tuple[str, str]) -> None:
        self._called(lambda: shadow.offer(told, metadata))

    def stop(self, shadow: Shadow, grace_s: float = 5.0) -> None:
        self.loop.run(shadow.stop(grace_s))

    def close(self) -> None:
        self.loop.run(self._connections.close())
        self.loop.stop()

    def _called(self, call: Callable[[], Any]) -> Any:
        async def called() -> Any:
            return call()

        return self.loop.run(called())


@pytest.fixture
def shadows(mesh: ToldMesh, seen: Seen) -> Iterator[Shadows]:
    shadows = Shadows(mesh.address, seen)
    yield shadows
    shadows.close()


def test_the_side_that_did_not_answer_is_asked(shadows: Shadows, mesh: ToldMesh, seen: Seen) -> None:
    running = shadows.make()
    shadows.offer(running, answered(), ("x-user", "some"))
    wait_until(lambda: bool(seen.shadows))
    assert mesh.calls[0].metadata["x-user"] == "some"
    assert mesh.calls[0].metadata["meshfold-shadow"] == "1"
    told, outcome = seen.shadows[0]
    assert told == answered()
    assert outcome.reply is not None
    assert (outcome.side, outcome.reply.message, outcome.code) == (
        Side.MESH,
        b"mesh message",
        grpc.StatusCode.OK,
    )
    assert outcome.took_s > 0
    shadows.stop(running)


def test_a_shadow_has_a_deadline_of_its_own(shadows: Shadows, mesh: ToldMesh, seen: Seen) -> None:
    running = shadows.make(timeout_s=0.2)
    shadows.offer(running, answered(), ("x-wait-s", "20"))
    wait_until(lambda: bool(seen.shadows))
    assert seen.shadows[0][1].code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert mesh.calls[0].ended.wait(10)
    shadows.stop(running)


def test_a_model_is_told_the_time_it_has_and_its_failure_ends_here(
    shadows: Shadows, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    left_s: list[float] = []

    async def model(call: Call) -> bytes:
        assert call.is_shadow
        left_s.append(call.deadline_s - time.monotonic())
        raise RuntimeError(call.message.decode())

    running = shadows.make(model, timeout_s=3.0)
    for _ in range(2):
        shadows.offer(running, answered(b"secret", Side.MESH))
    wait_until(lambda: len(seen.shadows) == 2)
    assert {outcome.code for _, outcome in seen.shadows} == {grpc.StatusCode.INTERNAL}
    assert all(2.0 < left <= 3.0 for left in left_s)
    assert "the model failed as a shadow: RuntimeError" in caplog.text
    assert "secret" not in caplog.text
    shadows.stop(running)


def test_as_many_run_at_once_as_are_allowed(shadows: Shadows, seen: Seen) -> None:
    running_now, most, may_end = 0, 0, threading.Event()

    async def model(call: Call) -> bytes:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        while not may_end.is_set():
            await asyncio.sleep(0.005)
        running_now -= 1
        return b""

    running = shadows.make(model, queue=10, threads=3)
    for _ in range(6):
        shadows.offer(running, answered(side=Side.MESH))
    wait_until(lambda: running_now == 3 and len(running.queue) == 3)
    may_end.set()
    wait_until(lambda: len(seen.shadows) == 6)
    assert most == 3
    shadows.stop(running)


def test_what_finds_no_room_is_dropped_without_waiting(shadows: Shadows) -> None:
    waiting = shadows.make(start=False)
    for _ in range(7):
        shadows.offer(waiting, answered())
    assert (len(waiting.queue), waiting.queue.dropped) == (4, 3)
    # Bytes of request, metadata and answer count.
    full = shadows.make(start=False)
    caller = ("caller", "c" * 100)
    room = QUEUE_BYTES - len(b"reply") - metadata_bytes((caller,))
    for size in (room + 1, room, 1):
        shadows.offer(full, answered(bytes(size)), caller)
    assert (len(full.queue), full.queue.dropped) == (1, 2)
    # One that was never started stops as well.
    for shadow in (waiting, full):
        shadows.stop(shadow)


def test_a_stop_drops_what_waits_and_gives_what_runs_its_grace(shadows: Shadows, seen: Seen) -> None:
    begun, may_end = threading.Event(), threading.Event()

    async def model(call: Call) -> bytes:
        begun.set()
        while not may_end.is_set():
            await asyncio.sleep(0.005)
        return b""

    running = shadows.make(model)
    for _ in range(3):
        shadows.offer(running, answered(side=Side.MESH))
    assert begun.wait(10)
    threading.Timer(0.2, may_end.set).start()
    start_s = time.monotonic()
    shadows.stop(running, 8)
    assert time.monotonic() - start_s < 7
    assert (len(seen.shadows), running.queue.dropped) == (1, 2)
    # It takes no more.
    shadows.offer(running, answered(side=Side.MESH))
    assert (len(running.queue), running.queue.dropped) == (0, 3)


def test_a_stop_ends_what_outlasts_its_grace(shadows: Shadows, mesh: ToldMesh, seen: Seen) -> None:
    running = shadows.make(timeout_s=30.0)
    shadows.offer(running, answered(), ("x-wait-s", "20"))
    wait_until(lambda: bool(mesh.calls))
    shadows.stop(running, 0.1)
    assert mesh.calls[0].ended.wait(10)
    assert seen.shadows == []
