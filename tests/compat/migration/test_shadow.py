from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.migration.modes import Kind, Mode
from meshfold.compat.migration.outcome import Answered, Outcome
from meshfold.compat.migration.shadow import Shadow, ShadowSettings
from meshfold.compat.migration.sides import Mesh, Model, Reply, Side
from meshfold.service import errors
from tests.compat.migration.conftest import Seen, ToldMesh
from tests.compat.migration.test_proxy import wait_until


def answered(message: bytes = b"message", side: Side = Side.MODEL) -> Answered:
    outcome = Outcome(side, Reply(b"reply"), grpc.StatusCode.OK, 0.001)
    return Answered(0, "feed", Mode(Kind.SERVE), message, outcome, "", 0.002)


@pytest.fixture
def channel_to(mesh: ToldMesh) -> Iterator[Mesh]:
    channel = Mesh(mesh.address, METHOD, grpc.Compression.NoCompression)
    yield channel
    channel.close()


def shadow(mesh: Mesh, seen: Seen, model: Any = None, **settings: Any) -> Shadow:
    given = {"queue_limit": 4, "queue_bytes": 1000, "timeout_s": 5.0, "threads": 1, **settings}
    return Shadow({Side.MESH: mesh, Side.MODEL: Model(model)}, ShadowSettings(**given), seen, errors)


def test_the_side_that_did_not_answer_is_asked(channel_to: Mesh, mesh: ToldMesh, seen: Seen) -> None:
    running = shadow(channel_to, seen)
    running.start()
    running.offer(answered(), (("x-user", "some"),))
    wait_until(lambda: bool(seen.shadows))
    assert mesh.calls[0].metadata["x-user"] == "some"
    told, outcome = seen.shadows[0]
    assert told == answered()
    assert outcome.reply is not None
    assert (outcome.side, outcome.reply.message, outcome.code) == (
        Side.MESH,
        b"mesh message",
        grpc.StatusCode.OK,
    )
    assert outcome.took_s > 0
    running.stop(5)


def test_a_shadow_has_a_deadline_of_its_own(channel_to: Mesh, mesh: ToldMesh, seen: Seen) -> None:
    running = shadow(channel_to, seen, timeout_s=0.2)
    running.start()
    running.offer(answered(), (("x-wait-s", "20"),))
    wait_until(lambda: bool(seen.shadows))
    assert seen.shadows[0][1].code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert mesh.calls[0].ended.wait(10)
    running.stop(5)


def test_a_model_is_told_the_time_it_has_and_its_failure_ends_here(
    channel_to: Mesh, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    left_s: list[float] = []

    def model(message: bytes, caller: Any) -> bytes:
        left_s.append(caller.time_remaining())
        assert caller.add_callback(lambda: None)
        raise RuntimeError(message.decode())

    running = shadow(channel_to, seen, model, timeout_s=3.0)
    running.start()
    for _ in range(2):
        running.offer(answered(b"secret", Side.MESH), ())
    wait_until(lambda: len(seen.shadows) == 2)
    assert {outcome.code for _, outcome in seen.shadows} == {grpc.StatusCode.INTERNAL}
    assert all(2.0 < left <= 3.0 for left in left_s)
    assert "the model failed as a shadow: RuntimeError" in caplog.text
    assert "secret" not in caplog.text
    running.stop(5)


def test_what_finds_no_room_is_dropped_without_waiting(channel_to: Mesh, seen: Seen) -> None:
    running = shadow(channel_to, seen)
    for _ in range(7):
        running.offer(answered(), ())
    assert (len(running.queue), running.queue.dropped) == (4, 3)
    # Bytes of request and answer count.
    narrow = shadow(channel_to, seen, queue_bytes=30)
    for message in (b"x" * 26, b"x" * 24, b"y"):
        narrow.offer(answered(message), ())
    assert (len(narrow.queue), narrow.queue.dropped) == (1, 2)


def test_a_stop_drops_what_waits_and_gives_what_runs_its_grace(channel_to: Mesh, seen: Seen) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def model(message: bytes, caller: Any) -> bytes:
        begun.set()
        assert may_end.wait(10)
        return b""

    running = shadow(channel_to, seen, model)
    running.start()
    for _ in range(3):
        running.offer(answered(side=Side.MESH), ())
    assert begun.wait(10)
    threading.Timer(0.2, may_end.set).start()
    start_s = time.monotonic()
    running.stop(8)
    assert time.monotonic() - start_s < 7
    assert (len(seen.shadows), running.queue.dropped) == (1, 2)
