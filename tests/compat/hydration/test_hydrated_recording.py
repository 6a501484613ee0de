"""What was filled in is recorded, so that a recorded request is asked as the model got it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.compat.hydration.recorded_request import hydrated_request
from meshfold.compat.key import keyed_hash, write_key
from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.migration.front import Front
from meshfold.compat.recording.client import RecordingClient
from meshfold.compat.recording.record_files import read_records
from meshfold.compat.shadow.recorded import recorded_pairs
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.types import User
from meshfold.protos.mesh.v1 import orchestrator_pb2 as mesh_pb
from meshfold.protos.meshfold.v1 import recording_pb2 as pb
from meshfold.service.migration import MigrationConfig
from meshfold.service.recording import RecordingConfig
from meshfold.service.server import Server
from tests.compat.hydration.conftest import FEATURES, HISTORIES, METHOD, VECTOR, ask, write_users
from tests.compat.migration.conftest import ToldMesh, mesh

__all__ = ["mesh"]

ANSWER = mesh_pb.RetrieveResponse(tasks=["like"], candidates=[{"item_id": 12}]).SerializeToString()


@pytest.fixture
def recorded(
    serve: Callable[..., Server], store: Path, users: Path, mesh: ToldMesh, tmp_path: Path
) -> Callable[..., list[pb.Recorded]]:
    """(mode, settings of recording) -> the records of one call of user 7 in front of a mesh."""

    def recorded(mode: str, **settings: Any) -> list[pb.Recorded]:
        write_users(users, HISTORIES, query_vector=[VECTOR, None, None])
        folder = tmp_path / "recorded"
        server = serve(
            store,
            'file = "users.parquet"',
            Front,
            mesh=mesh.address,
            migration=MigrationConfig(state=str(tmp_path / "modes.json")),
            recording=RecordingConfig(on=True, folder=str(folder), **settings),
        )
        client = MigrationClient(server.admin_address)
        client.set("shop", mode, 0, "a test", "to record")
        client.close()
        request = mesh_pb.RetrieveRequest(surface="shop", max_results=10, user={"user_id": 7})
        with grpc.insecure_channel(server.address) as channel:
            call = channel.unary_unary(METHOD)
            call(request.SerializeToString(), timeout=10, metadata=(("x-answer-bin", ANSWER),))
        recording = RecordingClient(server.admin_address)
        end_s = time.monotonic() + 20
        while recording.show().written < (2 if mode == "mirror" else 1):
            assert time.monotonic() < end_s
            time.sleep(0.02)
        recording.stop()
        recording.close()
        return list(read_records(folder))

    return recorded


def user(record: pb.Recorded) -> Any:
    return mesh_pb.RetrieveRequest.FromString(record.request).user


def test_a_served_request_is_recorded_with_what_the_model_got(
    recorded: Callable[..., list[pb.Recorded]], serve: Callable[..., Server], store: Path, tmp_path: Path
) -> None:
    (record,) = recorded("serve", user_ids="keep")[:1]
    assert record.side == "model"
    assert not record.is_redacted
    assert list(user(record).history) == HISTORIES[7]
    assert user(record).features["query_vector"].floats.values == VECTOR
    # Asked again without any file of users, by a server that fills nothing in, it gets the same answer.
    write_users(tmp_path / "users.parquet", {404: []})
    again = serve(store, 'file = "users.parquet"')
    with grpc.insecure_channel(again.address) as channel:
        assert channel.unary_unary(METHOD)(record.request, timeout=10) == record.answer
    assert ask(again, history=HISTORIES[7], features=FEATURES) != ask(again, user_id=7)


def test_a_shadow_by_the_model_has_the_request_that_it_answered(
    recorded: Callable[..., list[pb.Recorded]], tmp_path: Path
) -> None:
    write_key(tmp_path / "key")
    records = recorded("mirror", key_file=str(tmp_path / "key"))
    answer, shadow = sorted(records, key=lambda record: record.shadow)
    assert (answer.side, shadow.side) == ("mesh", "model")
    assert not user(answer).history
    assert answer.is_redacted
    assert list(user(shadow).history) == HISTORIES[7]
    assert user(shadow).user_id == user(answer).user_id != 7
    assert not shadow.is_redacted
    (pair,) = recorded_pairs(tmp_path / "recorded", keyed_hash(str(tmp_path / "key")), Skipped())
    assert pair.request == shadow.request
    assert not pair.is_redacted
    assert pair.mesh is not None
    assert pair.model is not None


def test_what_is_left_out_of_users_is_left_out_of_what_was_filled_in(
    recorded: Callable[..., list[pb.Recorded]],
) -> None:
    (record,) = recorded("only", user_ids="omit", omit="history,features")
    assert record.is_redacted
    assert not user(record).ByteSize()


def test_bytes_that_are_no_request_stay() -> None:
    assert hydrated_request(b"\xff", User(7)) == b"\xff"
