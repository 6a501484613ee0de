from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.protos.meshfold.v1 import migration_pb2 as pb
from meshfold.protos.meshfold.v1 import migration_pb2_grpc
from meshfold.service.server import Server
from tests.compat.migration.conftest import ToldMesh

Start = Callable[..., Server]
Code = grpc.StatusCode


def stub(channel: grpc.Channel) -> Any:
    return migration_pb2_grpc.MigrationServiceStub(channel)  # type: ignore[no-untyped-call]


def test_modes_are_told_and_set(start: Start, store: Path, mesh: ToldMesh) -> None:
    with grpc.insecure_channel(start(store).address) as channel:
        before = stub(channel).GetModes(pb.GetModesRequest())
        assert before == pb.Modes(
            mesh=mesh.address, default={"mode": {"kind": pb.Mode.MESH}}, served=["shop"]
        )
        mode = pb.Mode(kind=pb.Mode.CANARY, percent=2.5)
        after = stub(channel).SetMode(pb.SetModeRequest(surface="shop", mode=mode, who="me", why="try"))
        (own,) = after.surfaces
        assert (own.surface, own.mode, own.who, own.why, own.kill) == ("shop", mode, "me", "try", False)
        assert (after.generation, list(after.history)) == (1, [own])
        assert stub(channel).GetModes(pb.GetModesRequest()) == after
        follows = pb.SetModeRequest(surface="shop", mode={"kind": pb.Mode.DEFAULT}, who="me")
        assert not stub(channel).SetMode(follows).surfaces


def test_a_kill_asks_for_nothing(start: Start, store: Path) -> None:
    with grpc.insecure_channel(start(store).address) as channel:
        stub(channel).SetMode(pb.SetModeRequest(mode={"kind": pb.Mode.SERVE}, who="me"))
        killed = stub(channel).Kill(pb.KillRequest())
        assert (killed.default.mode.kind, killed.default.kill) == (pb.Mode.MESH, True)


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
            "serve needs the model, which serves shop and not 'shpo'; publish a snapshot of it",
        ),
    ],
)
def test_bad_input_changes_nothing(
    start: Start, store: Path, fields: dict[str, Any], code: grpc.StatusCode, said: str
) -> None:
    with grpc.insecure_channel(start(store).address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            stub(channel).SetMode(pb.SetModeRequest(**fields))
        assert caught.value.code() is code
        assert said in caught.value.details()
        assert stub(channel).GetModes(pb.GetModesRequest()).generation == 0


def test_bytes_that_are_no_message(start: Start, store: Path) -> None:
    with grpc.insecure_channel(start(store).address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/meshfold.v1.MigrationService/SetMode")(b"\xff")
        assert caught.value.code() is Code.INVALID_ARGUMENT
        assert caught.value.details() == "request: the bytes are not a meshfold.v1.SetModeRequest"


def test_what_needs_the_model_waits_for_a_snapshot(start: Start, tmp_path: Path) -> None:
    with grpc.insecure_channel(start(tmp_path / "nothing").address) as channel:
        for surface in ("", "shop"):
            with pytest.raises(grpc.RpcError) as caught:
                stub(channel).SetMode(
                    pb.SetModeRequest(surface=surface, mode={"kind": pb.Mode.MIRROR}, who="me")
                )
            assert caught.value.code() is Code.FAILED_PRECONDITION
            assert "nothing yet" in caught.value.details()


def test_a_state_that_cannot_be_written_says_so_and_a_kill_works_all_the_same(
    start: Start, store: Path, tmp_path: Path
) -> None:
    with grpc.insecure_channel(start(store).address) as channel:
        stub(channel).SetMode(pb.SetModeRequest(mode={"kind": pb.Mode.SERVE}, who="me"))
        (tmp_path / "modes.json").unlink()
        (tmp_path / "modes.json").mkdir()
        with pytest.raises(grpc.RpcError) as caught:
            stub(channel).SetMode(pb.SetModeRequest(mode={"kind": pb.Mode.ONLY}, who="me"))
        assert (caught.value.code(), "modes.json" in caught.value.details()) == (Code.INTERNAL, True)
        assert stub(channel).GetModes(pb.GetModesRequest()).default.mode.kind == pb.Mode.SERVE
        with pytest.raises(grpc.RpcError) as caught:
            stub(channel).Kill(pb.KillRequest(who="me"))
        assert caught.value.details().startswith("the mesh answers everything now")
        assert stub(channel).GetModes(pb.GetModesRequest()).default.mode.kind == pb.Mode.MESH
