from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.compat.migration.migration_service import MigrationService
from meshfold.compat.migration.mode_file import ModeFile
from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.modes import MOST_SURFACES
from meshfold.protos.meshfold.v1 import migration_pb2 as pb
from meshfold.protos.meshfold.v1 import migration_pb2_grpc
from tests.compat.migration.beside import beside
from tests.compat.migration.operators import serving

Code = grpc.StatusCode
Connect = Callable[..., Any]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """(surfaces that are served) -> a stub; modes are in tmp_path/modes.json."""
    switch = ModeSwitch(ModeFile(tmp_path / "modes.json"))
    switch.start()
    ends: list[Callable[[], Any]] = [switch.stop]

    def connect(*served: str) -> Any:
        server = serving(MigrationService(switch, "mesh.example:1", lambda: served).answers)
        channel = grpc.insecure_channel(server.__enter__())
        ends[:0] = [channel.close, lambda: server.__exit__(None, None, None)]
        return migration_pb2_grpc.MigrationServiceStub(channel)  # type: ignore[no-untyped-call]

    yield connect
    for end in ends:
        end()


def test_modes_are_told_and_set(connect: Connect) -> None:
    stub = connect("shop")
    before = stub.GetModes(pb.GetModesRequest())
    assert not before.comparison.on
    before.ClearField("comparison")
    assert before == pb.Modes(
        mesh="mesh.example:1", default={"mode": {"kind": pb.Mode.MESH}}, served=["shop"]
    )
    mode = pb.Mode(kind=pb.Mode.CANARY, percent=2.5)
    after = stub.SetMode(pb.SetModeRequest(surface="shop", mode=mode, who="me", why="try"))
    (own,) = after.surfaces
    assert (own.surface, own.mode, own.who, own.why, own.kill) == ("shop", mode, "me", "try", False)
    assert (after.generation, list(after.history)) == (1, [own])
    assert stub.GetModes(pb.GetModesRequest()) == after
    follows = pb.SetModeRequest(surface="shop", mode={"kind": pb.Mode.DEFAULT}, who="me")
    assert not stub.SetMode(follows).surfaces


def test_a_kill_asks_for_nothing(connect: Connect) -> None:
    stub = connect("shop")
    stub.SetMode(pb.SetModeRequest(mode={"kind": pb.Mode.SERVE}, who="me"))
    killed = stub.Kill(pb.KillRequest())
    assert (killed.default.mode.kind, killed.default.kill) == (pb.Mode.MESH, True)


def test_a_surface_that_nobody_serves_has_a_mode_where_it_is_forced(connect: Connect) -> None:
    stub = connect("shop")
    mesh = {"kind": pb.Mode.MESH}
    stub.SetMode(pb.SetModeRequest(surface="feed", mode=mesh, who="me", force=True))
    again = stub.SetMode(pb.SetModeRequest(surface="feed", mode=mesh, who="me", why="known by now"))
    assert [own.surface for own in again.surfaces] == ["feed"]
    dropped = pb.SetModeRequest(surface="feed", mode={"kind": pb.Mode.DEFAULT}, who="me")
    assert not stub.SetMode(dropped).surfaces


def test_forced_surfaces_are_bounded_and_so_are_the_labels_of_metrics(connect: Connect) -> None:
    stub = connect("shop")
    mesh = {"kind": pb.Mode.MESH}
    for i in range(MOST_SURFACES):
        stub.SetMode(pb.SetModeRequest(surface=f"surface {i}", mode=mesh, who="me", force=True))
    with pytest.raises(grpc.RpcError) as caught:
        stub.SetMode(pb.SetModeRequest(surface="shop", mode=mesh, who="me", force=True))
    assert "100 surfaces have modes of their own, and at most 100 may" in caught.value.details()


def test_more_changes_than_modes_carry_are_told_from_the_log(connect: Connect) -> None:
    stub = connect("shop")
    for i in range(120):
        stub.SetMode(pb.SetModeRequest(mode={"kind": pb.Mode.SERVE}, who="me", why=str(i)))
    assert len(stub.GetModes(pb.GetModesRequest()).history) == 100
    told = stub.GetModes(pb.GetModesRequest(changes=115)).history
    assert [change.why for change in told] == [str(i) for i in range(119, 4, -1)]
    assert len(stub.GetModes(pb.GetModesRequest(changes=1000)).history) == 120
    assert len(stub.GetModes(pb.GetModesRequest(changes=2)).history) == 2
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetModes(pb.GetModesRequest(changes=1001))
    assert caught.value.details() == "changes: must be 0 to 1000, got 1001"


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        (
            {"who": "me"},
            Code.INVALID_ARGUMENT,
            "mode.kind: must be one of MESH, MIRROR, CANARY, SERVE, ONLY, got 0",
        ),
        ({"who": "me", "mode": {"kind": 77}}, Code.INVALID_ARGUMENT, "got 77"),
        ({"mode": {"kind": "MESH"}}, Code.INVALID_ARGUMENT, "who: is empty"),
        ({"who": "me", "mode": {"kind": "DEFAULT"}}, Code.INVALID_ARGUMENT, "surface: is empty"),
        (
            {"who": "me", "mode": {"kind": "CANARY", "percent": 101}},
            Code.INVALID_ARGUMENT,
            "must be 0 to 100",
        ),
        ({"who": "me", "mode": {"kind": "SERVE", "percent": 5}}, Code.INVALID_ARGUMENT, "canary alone"),
        ({"who": "x" * 1001, "mode": {"kind": "MESH"}}, Code.INVALID_ARGUMENT, "who: has 1001 characters"),
        (
            {"who": "me", "mode": {"kind": "SERVE"}, "surface": "shpo"},
            Code.FAILED_PRECONDITION,
            "serve needs the model, which does not serve 'shpo'; publish a snapshot of it with `meshfold build`; "
            "did you mean 'shop'?",
        ),
        (
            {"who": "me", "mode": {"kind": "SERVE"}, "surface": "shpo", "force": True},
            Code.FAILED_PRECONDITION,
            "which does not serve 'shpo'",
        ),
        (
            {"who": "me", "mode": {"kind": "MESH"}, "surface": "shpo"},
            Code.NOT_FOUND,
            "'shpo' is not served and has no mode; `force` (--force) sets it all the same; did you mean 'shop'?",
        ),
        (
            {"who": "me", "mode": {"kind": "DEFAULT"}, "surface": "elsewhere"},
            Code.NOT_FOUND,
            "'elsewhere' is not served and has no mode; `force` (--force) sets it all the same; known: shop",
        ),
    ],
)
def test_bad_input_changes_nothing(
    connect: Connect, fields: dict[str, Any], code: grpc.StatusCode, said: str
) -> None:
    stub = connect("shop")
    with pytest.raises(grpc.RpcError) as caught:
        stub.SetMode(pb.SetModeRequest(**fields))
    assert caught.value.code() is code
    assert said in caught.value.details()
    assert stub.GetModes(pb.GetModesRequest()).generation == 0


def test_bytes_that_are_no_message(tmp_path: Path) -> None:
    service = MigrationService(ModeSwitch(ModeFile(tmp_path / "modes.json")), "", lambda: ())
    with serving(service.answers) as address, grpc.insecure_channel(address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/meshfold.v1.MigrationService/SetMode")(b"\xff")
        assert caught.value.code() is Code.INVALID_ARGUMENT
        assert caught.value.details() == "request: the bytes are not a meshfold.v1.SetModeRequest"


def test_what_needs_the_model_waits_for_a_snapshot(connect: Connect) -> None:
    stub = connect()
    for surface in ("", "shop"):
        with pytest.raises(grpc.RpcError) as caught:
            stub.SetMode(pb.SetModeRequest(surface=surface, mode={"kind": pb.Mode.MIRROR}, who="me"))
        assert caught.value.code() is Code.FAILED_PRECONDITION
        assert "nothing yet" in caught.value.details()


def test_a_state_that_cannot_be_written_says_so_and_a_kill_works_all_the_same(
    connect: Connect, tmp_path: Path
) -> None:
    stub = connect("shop")
    stub.SetMode(pb.SetModeRequest(mode={"kind": pb.Mode.SERVE}, who="me"))
    (tmp_path / "modes.json").unlink()
    (tmp_path / "modes.json").mkdir()
    with pytest.raises(grpc.RpcError) as caught:
        stub.SetMode(pb.SetModeRequest(mode={"kind": pb.Mode.ONLY}, who="me"))
    assert (caught.value.code(), "modes.json" in caught.value.details()) == (Code.INTERNAL, True)
    assert stub.GetModes(pb.GetModesRequest()).default.mode.kind == pb.Mode.SERVE
    with pytest.raises(grpc.RpcError) as caught:
        stub.Kill(pb.KillRequest(who="me"))
    assert caught.value.details().startswith("the mesh answers everything here now")
    told = stub.GetModes(pb.GetModesRequest())
    assert told.default.mode.kind == pb.Mode.MESH
    assert "a kill is in effect here that is not durable yet" in told.trouble


def test_a_kill_is_answered_while_another_process_holds_the_lock(connect: Connect, tmp_path: Path) -> None:
    stub = connect("shop")
    stub.SetMode(pb.SetModeRequest(mode={"kind": pb.Mode.SERVE}, who="me"))
    with beside("hold", tmp_path / "modes.json"):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Kill(pb.KillRequest(who="me"), timeout=10)
        assert "another process has held" in caught.value.details()
        assert caught.value.details().endswith("goes on trying to write it")
        assert stub.GetModes(pb.GetModesRequest()).default.kill
