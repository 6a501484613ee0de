from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.migration.stickiness import chosen
from meshfold.compat.migration.wire_scan import scan
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.front import Side
from meshfold.service.server import Server
from tests.compat.migration.conftest import Seen, ToldMesh, ask, request
from tests.waiting import wait_until

Start = Callable[..., Server]
Code = grpc.StatusCode


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A store in which nothing is published."""
    return tmp_path / "nothing"


@pytest.fixture
def proxied(start: Start, nowhere: Path) -> Iterator[grpc.Channel]:
    """A channel to a server in mode mesh that has no model."""
    with grpc.insecure_channel(start(nowhere).address) as channel:
        yield channel


def switch(server: Server, mode: str, percent: float = 0.0, surface: str = "") -> None:
    client = MigrationClient(server.admin_address)
    client.set(surface, mode, percent, "a test", "")
    client.close()


def names(message: bytes) -> set[str]:
    """Who answered: the versions that the model names, none of the mesh."""
    return set() if message.startswith(b"mesh ") else {pb.RetrieveResponse.FromString(message).versions.index}


@pytest.mark.parametrize("message", [request(5), b"", b"\xff no message at all", b"\x1a\x7f"])
def test_bytes_go_through_as_they_are_before_anything_is_published(
    proxied: grpc.Channel, mesh: ToldMesh, message: bytes
) -> None:
    got = ask(proxied, message)
    assert (got.code, got.message) == (Code.OK, b"mesh " + message)
    assert mesh.calls[0].message == message


def test_metadata_go_both_ways(proxied: grpc.Channel, mesh: ToldMesh) -> None:
    got = ask(proxied, request(), authorization="Bearer x", x_trace_bin=b"\x00\x80")
    there = mesh.calls[0].metadata
    assert (there["authorization"], there["x-trace-bin"]) == ("Bearer x", b"\x00\x80")
    assert got.initial == {"x-initial": "from the mesh", "x-initial-bin": b"\x00\xff"}
    assert got.trailing == {"x-trailing": "also", "meshfold-answered-by": "mesh"}


def test_the_time_that_is_left_goes_on_up_to_the_longest_that_the_mesh_has(
    start: Start, nowhere: Path, mesh: ToldMesh
) -> None:
    server = start(nowhere, {"timeout_s": 20.0}, mesh_timeout_s=30.0)
    with grpc.insecure_channel(server.address) as channel:
        for timeout_s in (7.0, 100.0, None):
            ask(channel, request(), timeout_s=timeout_s)
    # On the wire a time has three digits, rounded up.
    assert 6.0 < mesh.calls[0].left_s < 7.1
    assert 29.0 < mesh.calls[1].left_s < 30.1
    # A caller without a deadline has the server's.
    assert 19.0 < mesh.calls[2].left_s < 20.1


def test_what_only_a_proxy_says_is_not_taken_from_callers(
    start: Start, store: Path, mesh: ToldMesh, seen: Seen
) -> None:
    server = start(store)
    own: dict[str, Any] = {"meshfold_shadow": "1", "meshfold_answered_by": "mesh", "meshfold_fallback": "ok"}
    own["meshfold_again"] = "1"
    with grpc.insecure_channel(server.address) as channel:
        got = ask(channel, request(), **own, x_other="1")
        assert got.trailing["meshfold-answered-by"] == "mesh"
        switch(server, "serve")
        got = ask(channel, request(), **own, x_other="1")
        assert got.trailing == {"meshfold-answered-by": "model"}
        wait_until(lambda: bool(seen.shadows))
    asked, shadow = (
        {key: value for key, value in call.metadata.items() if key.startswith(("meshfold", "x-"))}
        for call in mesh.calls
    )
    assert asked == {"x-other": "1"}
    assert shadow == {"x-other": "1", "meshfold-shadow": "1"}


def test_a_deadline_that_passes_ends_the_call_at_the_mesh(proxied: grpc.Channel, mesh: ToldMesh) -> None:
    got = ask(proxied, request(), timeout_s=0.2, x_wait_s="20")
    assert got.code is Code.DEADLINE_EXCEEDED
    assert mesh.calls[0].ended.wait(10)


def test_a_status_goes_through_with_its_details(proxied: grpc.Channel) -> None:
    details = f"não há isto {'x' * 600}"
    got = ask(
        proxied, request(), x_code="DATA_LOSS", x_details_bin=details.encode(), x_status_bin=b"\x08\x0f\xff"
    )
    assert (got.code, got.details) == (Code.DATA_LOSS, details)
    assert got.initial["x-initial"] == "from the mesh"
    assert got.trailing["grpc-status-details-bin"] == b"\x08\x0f\xff"
    assert got.trailing["x-trailing"] == "also"
    assert got.side == "mesh"


def test_a_caller_that_leaves_ends_the_call_at_the_mesh(
    proxied: grpc.Channel, mesh: ToldMesh, seen: Seen
) -> None:
    call = proxied.unary_unary(METHOD).future(request(), metadata=(("x-wait-s", "20"),))
    wait_until(lambda: bool(mesh.calls))
    assert not mesh.calls[0].ended.is_set()
    call.cancel()
    assert mesh.calls[0].ended.wait(10)
    wait_until(lambda: bool(seen.answers))
    assert seen.answers[0].outcome.code is Code.CANCELLED


def test_compressed_requests_and_answers_are_understood(start: Start, nowhere: Path, mesh: ToldMesh) -> None:
    server = start(nowhere, compression="gzip")
    message = request(surface="x" * 5000)
    with grpc.insecure_channel(server.address, compression=grpc.Compression.Gzip) as channel:
        assert ask(channel, message, x_compressed="1").message == b"mesh " + message
    assert mesh.calls[0].message == message


def test_a_mesh_that_is_down_is_told_as_it_is(proxied: grpc.Channel, mesh: ToldMesh, seen: Seen) -> None:
    mesh.stop()
    got = ask(proxied, request())
    assert got.code is Code.UNAVAILABLE
    assert got.side == "mesh"
    assert seen.answers[-1].outcome.code is Code.UNAVAILABLE
    mesh.start()
    wait_until(lambda: ask(proxied, request()).code is Code.OK)


def test_the_model_answers_for_a_mesh_that_is_down_where_that_is_allowed(
    start: Start, store: Path, mesh: ToldMesh, seen: Seen
) -> None:
    server = start(store, fallback=True)
    with grpc.insecure_channel(server.address) as channel:
        assert ask(channel, request()).side == "mesh"
        mesh.stop()
        got = ask(channel, request())
        assert len(pb.RetrieveResponse.FromString(got.message).candidates) == 5
        assert (got.side, got.trailing["meshfold-fallback"]) == ("model", "unavailable")
        told = seen.answers[-1]
        assert (told.outcome.side, told.outcome.code, told.fallback) == (Side.MODEL, Code.OK, "UNAVAILABLE")
        # Where the model cannot either, the mesh's status is what counts.
        got = ask(channel, request(max_results=0))
        assert (got.code, got.side) == (Code.UNAVAILABLE, "mesh")
        mesh.start()
        wait_until(lambda: ask(channel, request()).side == "mesh")


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.RESOURCE_EXHAUSTED, Code.NOT_FOUND])
def test_what_the_mesh_answers_is_no_reason_to_ask_the_model(
    start: Start, store: Path, code: grpc.StatusCode
) -> None:
    with grpc.insecure_channel(start(store, fallback=True).address) as channel:
        got = ask(channel, request(), x_code=code.name, x_details_bin=b"its own words")
    assert (got.code, got.details, got.side) == (code, "its own words", "mesh")


def test_a_canary_is_sticky_by_user(start: Start, store: Path) -> None:
    server = start(store)
    switch(server, "canary", 30, "shop")
    with grpc.insecure_channel(server.address) as channel:
        for user_id in range(1, 60):
            message = request(user_id)
            model = chosen(30, "shop", scan(message), message)
            for _ in range(2):
                got = ask(channel, message)
                assert (got.side, bool(names(got.message))) == (("model", True) if model else ("mesh", False))
        # The surface may be left out where the model serves one.
        message = request(7, surface="")
        assert ask(channel, message).side == ask(channel, request(7)).side
        # Another has the default.
        assert {ask(channel, request(u, surface="video")).side for u in range(1, 20)} == {"mesh"}


def test_the_model_answers_in_serve_and_the_mesh_shadows(
    start: Start, store: Path, mesh: ToldMesh, seen: Seen
) -> None:
    server = start(store)
    switch(server, "serve")
    with grpc.insecure_channel(server.address) as channel:
        got = ask(channel, request(3), authorization="Bearer x", x_code="NOT_FOUND", x_details_bin=b"no")
        assert (got.code, got.side) == (Code.OK, "model")
        wait_until(lambda: bool(seen.shadows))
    assert mesh.calls[0].message == request(3)
    assert (mesh.calls[0].metadata["authorization"], mesh.calls[0].metadata["meshfold-shadow"]) == (
        "Bearer x",
        "1",
    )
    answered, shadow = seen.shadows[0]
    assert answered.outcome.reply is not None
    assert answered.outcome.reply.message == got.message
    assert (shadow.side, shadow.code, shadow.reply) == (Side.MESH, Code.NOT_FOUND, None)


def test_the_mesh_answers_in_mirror_and_the_model_shadows(start: Start, store: Path, seen: Seen) -> None:
    server = start(store)
    switch(server, "mirror")
    with grpc.insecure_channel(server.address) as channel:
        assert ask(channel, request(3)).message == b"mesh " + request(3)
        assert ask(channel, request(3, max_results=-1)).side == "mesh"
        wait_until(lambda: len(seen.shadows) == 2)
    by_code = {shadow.code: shadow for _, shadow in seen.shadows}
    assert by_code.keys() == {Code.OK, Code.INVALID_ARGUMENT}
    reply = by_code[Code.OK].reply
    assert reply is not None
    assert names(reply.message)


@pytest.mark.parametrize("mode", ["canary", "serve"])
def test_the_mesh_answers_where_the_model_fails(start: Start, store: Path, mode: str, seen: Seen) -> None:
    server = start(store)
    switch(server, mode, 100 if mode == "canary" else 0)
    with grpc.insecure_channel(server.address) as channel:
        # The model refuses what this mesh would answer.
        got = ask(channel, request(max_results=0))
        assert (got.message, got.side) == (b"mesh " + request(max_results=0), "mesh")
        assert got.trailing["meshfold-fallback"] == "invalid_argument"
        assert seen.answers[-1].fallback == "INVALID_ARGUMENT"
        # Where the mesh refuses too, its word counts.
        got = ask(channel, request(max_results=0), x_code="OUT_OF_RANGE", x_details_bin=b"none wanted")
        assert (got.code, got.details, got.side) == (Code.OUT_OF_RANGE, "none wanted", "mesh")


def test_the_models_word_counts_where_the_mesh_is_not_there(
    start: Start, store: Path, mesh: ToldMesh
) -> None:
    server = start(store)
    switch(server, "serve")
    mesh.stop()
    with grpc.insecure_channel(server.address) as channel:
        got = ask(channel, request(max_results=0))
    assert (got.code, got.side) == (Code.INVALID_ARGUMENT, "model")
    assert got.details.startswith("max_results: must be 1 to")


def test_the_mesh_is_not_asked_in_only(start: Start, store: Path, mesh: ToldMesh) -> None:
    server = start(store)
    switch(server, "only")
    with grpc.insecure_channel(server.address) as channel:
        assert ask(channel, request()).side == "model"
        got = ask(channel, request(max_results=0))
        assert (got.code, got.side) == (Code.INVALID_ARGUMENT, "model")
    assert mesh.calls == []


def test_a_kill_goes_back_to_the_mesh_at_once(start: Start, store: Path) -> None:
    server = start(store)
    switch(server, "only", surface="shop")
    switch(server, "serve")
    client = MigrationClient(server.admin_address)
    with grpc.insecure_channel(server.address) as channel:
        assert ask(channel, request()).side == "model"
        client.kill("a test", "enough")
        assert {ask(channel, request(surface=name)).side for name in ("shop", "", "video")} == {"mesh"}
    client.close()


def test_modes_are_kept_across_restarts(start: Start, store: Path, nowhere: Path) -> None:
    first = start(store)
    switch(first, "serve", surface="shop")
    first.stop()
    with grpc.insecure_channel(start(store).address) as channel:
        assert ask(channel, request()).side == "model"
    # A model that is not there any more: the mesh answers.
    with grpc.insecure_channel(start(nowhere).address) as channel:
        got = ask(channel, request())
        assert (got.side, got.trailing["meshfold-fallback"]) == ("mesh", "unavailable")


def test_surfaces_that_nobody_knows_share_a_label(start: Start, store: Path, seen: Seen) -> None:
    with grpc.insecure_channel(start(store).address) as channel:
        for surface in ("shop", "", "made up", "made up too"):
            ask(channel, request(surface=surface))
    assert [told.surface for told in seen.answers] == ["shop", "shop", "other", "other"]
