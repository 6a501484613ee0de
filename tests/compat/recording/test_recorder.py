from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.compat.key import write_key
from meshfold.compat.migration.bounded_queue import QUEUE_BYTES
from meshfold.compat.recording.record_files import read_records
from meshfold.compat.recording.recorder import Recorder
from meshfold.model.errors import InvalidConfig
from meshfold.protos.mesh.v1 import orchestrator_pb2 as mesh
from meshfold.service.front import Answered, Outcome, Reply, Side
from meshfold.service.recording import RecordingConfig
from tests.compat.migration.conftest import request

Make = Callable[..., Recorder]


ANSWER = mesh.RetrieveResponse(tasks=["watch"]).SerializeToString()


def answered(number: int, message: bytes = b"", answer: bytes = ANSWER) -> Answered:
    outcome = Outcome(Side.MODEL, Reply(answer), grpc.StatusCode.OK, 0.25)
    return Answered(number, "feed", "canary 5 %", message, outcome, "", 0.5)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """(settings) -> a recorder into tmp_path/recorded, started unless it is not to be."""
    made: list[Recorder] = []

    def make(start: bool = True, folder: Path = tmp_path / "recorded", **settings: Any) -> Recorder:
        given = {"on": True, "queue": 100, "user_ids": "omit", **settings}
        recorder = Recorder(RecordingConfig(folder=str(folder), bytes=1 << 24, **given))
        made.append(recorder)
        if start:
            recorder.start()
        return recorder

    yield make
    for recorder in made:
        recorder.stop(5)


def test_a_call_and_its_shadow_are_recorded(make: Make, tmp_path: Path) -> None:
    recorder = make()
    call = answered(7, request(3))
    recorder.answered(call)
    recorder.shadowed(call, Outcome(Side.MESH, None, grpc.StatusCode.NOT_FOUND, 0.125))
    assert recorder.end().written == 2
    answer, shadow = read_records(tmp_path / "recorded")
    assert (answer.surface, answer.mode, answer.side, answer.code) == ("feed", "canary 5 %", "model", 0)
    assert (answer.took_s, answer.answer, answer.shadow) == (0.25, ANSWER, False)
    assert abs(answer.unix_ms / 1000 - time.time()) < 60
    assert mesh.RetrieveRequest.FromString(answer.request).user.user_id == 0
    assert mesh.RetrieveRequest.FromString(answer.request).max_results == 5
    assert (shadow.side, shadow.code, shadow.shadow, shadow.request, shadow.answer) == (
        "mesh",
        5,
        True,
        b"",
        b"",
    )
    assert answer.call == shadow.call
    assert answer.call & 0xFFFFFFFF == 7


def test_nothing_is_recorded_while_it_is_off(make: Make, tmp_path: Path) -> None:
    recorder = make(on=False)
    recorder.answered(answered(1))
    state = recorder.begin("me", "a reason")
    assert (state.on, state.who, state.why) == (True, "me", "a reason")
    recorder.answered(answered(2))
    assert recorder.begin("you", "another").who == "me"
    assert not recorder.end().on
    recorder.answered(answered(3))
    recorder.begin("you", "")
    recorder.answered(answered(4))
    state = recorder.end()
    assert (state.written, state.dropped, state.files) == (2, 0, 2)
    assert state.bytes == sum(path.stat().st_size for path in (tmp_path / "recorded").iterdir())
    assert [record.call & 0xFFFFFFFF for record in read_records(tmp_path / "recorded")] == [2, 4]


def test_what_finds_no_room_is_dropped_and_counted(make: Make) -> None:
    by_count = make(start=False, queue=3)
    for number in range(5):
        by_count.answered(answered(number))
    assert by_count.state().dropped == 2
    by_bytes = make(start=False)
    half = bytes(QUEUE_BYTES // 2)
    by_bytes.answered(answered(1, half, half + b"y"))
    by_bytes.answered(answered(2, half, half))
    assert (len(by_bytes.queue), by_bytes.state().dropped) == (1, 1)


def test_a_stop_writes_what_waits(make: Make, tmp_path: Path) -> None:
    recorder = make(start=False)
    for number in range(50):
        recorder.answered(answered(number))
    recorder.start()
    recorder.stop(5)
    assert len(list(read_records(tmp_path / "recorded"))) == 50


def test_a_folder_that_cannot_be_written_costs_records_and_nothing_else(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "recorded").write_text("in the way")
    recorder = make()
    for number in range(3):
        recorder.answered(answered(number))
    state = recorder.end()
    assert (state.written, state.dropped) == (0, 3)
    assert "recorded failed, and goes on when it can" in caplog.text
    (tmp_path / "recorded").unlink()
    recorder.begin("me", "")
    end_s = time.monotonic() + 10
    while not recorder.written:
        assert time.monotonic() < end_s
        recorder.answered(answered(9))
        time.sleep(0.05)
    recorder.end()
    assert {record.call & 0xFFFFFFFF for record in read_records(tmp_path / "recorded")} == {9}


def test_ids_are_the_same_on_every_server_that_has_the_key(make: Make, tmp_path: Path) -> None:
    key = tmp_path / "key"
    write_key(key)
    for name in ("one", "other"):
        recorder = make(folder=tmp_path / name, user_ids="hash", key_file=str(key))
        recorder.answered(answered(1, request(12345)))
        recorder.end()
    ((one,), (other,)) = (read_records(tmp_path / name) for name in ("one", "other"))
    assert one.request == other.request
    assert mesh.RetrieveRequest.FromString(one.request).user.user_id != 12345
    assert one.is_hashed


def test_a_key_that_is_not_there_stops_the_start(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="`meshfold shadow key --out FILE` makes one"):
        make(key_file=str(tmp_path / "key"))


def test_a_record_tells_whether_its_request_can_be_asked_again(make: Make, tmp_path: Path) -> None:
    recorder = make(user_ids="keep", omit="history")
    for history in ([], [1, 2]):
        message = mesh.RetrieveRequest(user={"user_id": 1, "history": history}).SerializeToString()
        recorder.answered(answered(1, message))
    recorder.shadowed(answered(1), Outcome(Side.MESH, None, grpc.StatusCode.NOT_FOUND, 0.125))
    recorder.end()
    whole, cut, shadow = read_records(tmp_path / "recorded")
    assert (whole.is_redacted, cut.is_redacted) == (False, True)
    assert whole.HasField("is_redacted")
    assert not shadow.HasField("is_redacted")
    assert not whole.is_hashed
