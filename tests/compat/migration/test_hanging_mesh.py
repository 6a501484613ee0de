from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.migration import breaker
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.server import Server
from tests.compat.migration.conftest import Seen, ToldMesh, ask, request
from tests.compat.migration.test_proxy import nowhere, proxied, switch
from tests.waiting import wait_until

__all__ = ["nowhere", "proxied"]
Start = Callable[..., Server]
Code = grpc.StatusCode


def test_a_mesh_that_hangs_holds_no_caller_without_a_deadline_for_ever(
    start: Start, nowhere: Path, mesh: ToldMesh
) -> None:
    with grpc.insecure_channel(start(nowhere, mesh_timeout_s=0.2).address) as channel:
        got = ask(channel, request(), timeout_s=None, x_wait_s="20")
    assert (got.code, got.side) == (Code.DEADLINE_EXCEEDED, "mesh")
    assert mesh.calls[0].ended.wait(10)


def test_a_mesh_that_hangs_leaves_time_for_the_model(start: Start, store: Path) -> None:
    with grpc.insecure_channel(start(store, fallback=True, first_share=0.2).address) as channel:
        got = ask(channel, request(), timeout_s=5.0, x_wait_s="20")
    assert (got.side, got.trailing["meshfold-fallback"]) == ("model", "deadline_exceeded")


def hanging(channel: grpc.Channel, count: int, timeout_s: float = 20.0, surface: str = "shop") -> list[Any]:
    """Calls that a mesh keeps waiting."""
    call = channel.unary_unary(METHOD)
    metadata = (("x-wait-s", "30"),)
    return [call.future(request(surface=surface), timeout=timeout_s, metadata=metadata) for _ in range(count)]


def test_callers_of_a_mesh_that_hangs_are_bounded_and_hold_up_no_other_surface(
    start: Start, tmp_path: Path, publish_items: Callable[..., Path], mesh: ToldMesh
) -> None:
    for surface in ("shop", "video"):
        publish_items(tmp_path / "store", surface)
    server = start(tmp_path / "store", mesh_waiting=16)
    switch(server, "only", surface="video")
    with grpc.insecure_channel(server.address) as channel:
        waiting = hanging(channel, 60)
        wait_until(lambda: sum(call.done() for call in waiting) == 52)
        # Half of what may wait is one surface's; the others are told at once, with a time to come back.
        for call in waiting:
            if call.done():
                assert (call.code(), "calls wait for the mesh already" in call.details()) == (
                    Code.RESOURCE_EXHAUSTED,
                    True,
                )
        for _ in range(4):
            assert ask(channel, request(surface="video")).side == "model"
        # Another surface of the mesh has places of its own, half of what is left.
        others = hanging(channel, 8, surface="unknown")
        wait_until(lambda: sum(call.done() for call in others) == 4)
        assert ask(channel, request(surface="video")).side == "model"
        # Operators switch the first over meanwhile.
        switch(server, "only", surface="shop")
        assert ask(channel, request()).side == "model"
        for call in (*waiting, *others):
            call.cancel()


def test_a_mesh_that_hangs_costs_only_the_first_callers_their_share(
    start: Start, store: Path, mesh: ToldMesh, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "_TRY_S", 100.0)
    server = start(store, fallback=True, first_share=0.2)
    with grpc.insecure_channel(server.address) as channel:
        first = hanging(channel, 8, timeout_s=2.0)
        assert {len(pb.RetrieveResponse.FromString(call.result()).candidates) for call in first} == {5}
        assert [told.fallback for told in seen.answers] == ["DEADLINE_EXCEEDED"] * 8
        asked = len(mesh.calls)
        # Later ones are answered by the model at once: the mesh is not asked.
        for _ in range(10):
            got = ask(channel, request(), timeout_s=2.0, x_wait_s="30")
            assert (got.code, got.side) == (Code.OK, "model")
            assert got.trailing["meshfold-fallback"] == "unavailable"
        assert len(mesh.calls) == asked
        # Another surface of the mesh is asked: what hangs there is not known.
        assert ask(channel, request(surface="other")).side == "mesh"


def test_the_model_answers_calls_that_too_many_others_wait_before(
    start: Start, store: Path, mesh: ToldMesh
) -> None:
    with grpc.insecure_channel(start(store, fallback=True, mesh_waiting=2).address) as channel:
        (waiting,) = hanging(channel, 1)
        wait_until(lambda: len(mesh.calls) == 1)
        got = ask(channel, request())
        assert (got.code, got.side) == (Code.OK, "model")
        assert got.trailing["meshfold-fallback"] == "resource_exhausted"
        waiting.cancel()
    assert len(mesh.calls) == 1


def test_a_mesh_that_comes_back_is_found_by_one_call(
    start: Start, store: Path, mesh: ToldMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "_TRY_S", 0.1)
    server = start(store, fallback=True)
    with grpc.insecure_channel(server.address) as channel:
        mesh.stop()
        assert {ask(channel, request()).side for _ in range(12)} == {"model"}
        mesh.start()
        wait_until(lambda: ask(channel, request()).side == "mesh")
        assert {ask(channel, request()).side for _ in range(12)} == {"mesh"}


def test_without_a_fallback_a_mesh_that_is_down_is_asked_every_time(
    proxied: grpc.Channel, mesh: ToldMesh
) -> None:
    mesh.stop()
    for _ in range(12):
        got = ask(proxied, request())
        assert (got.code, got.side) == (Code.UNAVAILABLE, "mesh")
        assert "it is tried again" not in got.details
    mesh.start()
    wait_until(lambda: ask(proxied, request()).code is Code.OK)
