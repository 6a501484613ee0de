from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.compat.recording.record_files import read_records
from meshfold.protos.mesh.v1 import orchestrator_pb2 as mesh_pb
from meshfold.protos.meshfold.v1 import recording_pb2 as pb
from meshfold.protos.meshfold.v1 import recording_pb2_grpc
from meshfold.service.recording import RecordingConfig
from meshfold.service.server import Server
from tests.compat.migration.conftest import ToldMesh, ask, mesh, publish_items, request, seen, start, store

__all__ = ["mesh", "publish_items", "seen", "start", "store"]
Start = Callable[..., Server]


def stub(channel: grpc.Channel) -> Any:
    return recording_pb2_grpc.RecordingServiceStub(channel)  # type: ignore[no-untyped-call]


def test_calls_are_recorded_between_start_and_stop(
    start: Start, store: Path, mesh: ToldMesh, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "recorded"
    server = start(store, {"recording": RecordingConfig(folder=str(folder))}, fallback=True)
    with (
        grpc.insecure_channel(server.address) as channel,
        grpc.insecure_channel(server.admin_address) as admin,
    ):
        assert stub(admin).GetRecording(pb.GetRecordingRequest()) == pb.Recording(folder=str(folder))
        ask(channel, request(1))
        told = stub(admin).StartRecording(pb.StartRecordingRequest(who="me", why="try"))
        assert (told.on, told.who, told.why) == (True, "me", "try")
        ask(channel, request(2, request_id="session"))
        mesh.stop()
        ask(channel, request(3, request_id="session") + b"\xf8\x07\x05")
        told = stub(admin).StopRecording(pb.StopRecordingRequest())
        assert (told.on, told.written, told.dropped, told.files) == (False, 2, 0, 1)
        ask(channel, request(4))
    one, other = read_records(folder)
    assert (one.side, one.fallback) == ("mesh", "")
    assert (other.side, other.code) == ("model", 0)
    # A call that a mesh's stop ends, or one that finds nobody.
    assert other.fallback in ("CANCELLED", "UNAVAILABLE")
    requests = [mesh_pb.RetrieveRequest.FromString(record.request) for record in (one, other)]
    assert len({*(request.user.user_id for request in requests), 2, 3, 0}) == 5
    answer = mesh_pb.RetrieveResponse.FromString(other.answer)
    assert {request.request_id for request in requests} == {answer.request_id}
    assert len(answer.candidates) == 5
    assert not any(b"session" in path.read_bytes() for path in folder.iterdir())
    assert f"calls are recorded to {folder}, by 'me': 'try'" in caplog.text
    assert "calls are recorded no more" in caplog.text


def test_a_setting_records_from_the_start(start: Start, store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    recording = RecordingConfig(on=True, folder=str(folder), user_ids="keep")
    server = start(store, {"recording": recording})
    with (
        grpc.insecure_channel(server.address) as channel,
        grpc.insecure_channel(server.admin_address) as admin,
    ):
        assert stub(admin).GetRecording(pb.GetRecordingRequest()).on
        ask(channel, request(5))
    server.stop()
    (record,) = read_records(folder)
    assert (record.request, record.answer) == (request(5), b"mesh " + request(5))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (pb.StartRecordingRequest(), "who: is empty"),
        (pb.StartRecordingRequest(who="me", why="x" * 1001), "why: has 1001 characters"),
    ],
)
def test_bad_input_starts_nothing(start: Start, store: Path, given: Any, said: str) -> None:
    with grpc.insecure_channel(start(store).admin_address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            stub(channel).StartRecording(given)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert said in caught.value.details()
        assert not stub(channel).GetRecording(pb.GetRecordingRequest()).on
