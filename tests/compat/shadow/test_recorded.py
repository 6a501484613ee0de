from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from meshfold.compat.key import KeyedHash
from meshfold.compat.recording.record_files import FileLimits, record_files
from meshfold.compat.recording.redaction import Redaction, UserIds
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.compat.shadow.recorded import is_recording, recorded_pairs
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData
from meshfold.protos.mesh.v1 import orchestrator_pb2 as mesh
from tests.compat.shadow.recordings import answer, record, write_records

KEYED = KeyedHash(b"k" * 32)
REQUEST = mesh.RetrieveRequest(
    request_id="request-1",
    surface="shop",
    max_results=3,
    user={"user_id": 7, "history": [1, 2], "features": {"country": {"strings": {"values": ["de"]}}}},
    filter={"match": {"field": "language", "strings": ["de"]}},
)
MESSAGE = REQUEST.SerializeToString()


def read(place: Path, *features: str) -> tuple[list[Pair], Skipped]:
    skipped = Skipped()
    return list(recorded_pairs(place, KEYED, skipped, features)), skipped


def test_an_answer_and_its_shadow_are_a_pair(tmp_path: Path) -> None:
    shadow = record(1, "model", answer(3, 1), shadow=True, took_s=0.5)
    again = record(1, "mesh", answer(2), shadow=True, again=True)
    write_records(tmp_path, record(1, "mesh", answer(1, 2), MESSAGE), shadow, again)
    ((pair,), skipped) = read(tmp_path, "country", "age")
    assert pair.mesh == SideAnswer((1, 2), pair.mesh.scores if pair.mesh else (), "OK", 250.0, "v1")
    assert pair.model is not None
    assert (pair.model.item_ids, pair.model.latency_ms) == ((3, 1), 500.0)
    assert pair.again is not None
    assert pair.again.item_ids == (2,)
    assert (pair.surface, pair.served_by, pair.max_results, pair.unix_ms) == (
        "shop",
        "mesh",
        3,
        1_800_000_000_000,
    )
    assert pair.filter == 'language == "de"'
    assert pair.request == MESSAGE
    assert pair.slices == {
        "mode": "mirror",
        "history": "1-4",
        "user": "known",
        "filtered": "yes",
        "feature.country": "de",
        "feature.age": "none",
    }
    assert pair.request_id == KEYED.request_id("request-1")
    assert pair.user_key == f"{KEYED.user_id(7):016x}"
    assert not skipped


def test_ids_that_are_hashed_already_stay(tmp_path: Path) -> None:
    """So that a user of a recording and of live pairs under one key is one user."""
    redacted = Redaction(UserIds.HASH, (), KEYED).redacted(MESSAGE)
    kept = write_records(tmp_path / "kept", record(1, "mesh", answer(1), MESSAGE))
    hashed = write_records(
        tmp_path / "hashed", record(1, "mesh", answer(1), redacted.content, is_hashed=True, is_redacted=False)
    )
    ((one,), (other,)) = (read(folder)[0] for folder in (kept, hashed))
    assert (one.request_id, one.user_key) == (other.request_id, other.user_key)


@pytest.mark.parametrize(
    ("message", "fields", "expected"),
    [
        (MESSAGE, {}, False),
        (MESSAGE, {"is_redacted": True}, True),
        # Of an older recording, where a history may have been left out.
        (mesh.RetrieveRequest(request_id="r").SerializeToString(), {}, True),
        (mesh.RetrieveRequest(request_id="r").SerializeToString(), {"is_redacted": False}, False),
        (b"", {"is_redacted": True}, False),
    ],
)
def test_a_pair_tells_whether_its_request_can_be_asked_again(
    tmp_path: Path, message: bytes, fields: dict[str, bool], expected: bool
) -> None:
    ((pair,), _) = read(write_records(tmp_path, record(1, "mesh", answer(1), message, **fields)))
    assert pair.is_redacted is expected


def test_a_request_without_an_id_is_named_by_its_call(tmp_path: Path) -> None:
    ((pair,), _) = read(write_records(tmp_path, record(0xAB, "mesh", answer(1))))
    assert pair.request_id == "call-00000000000000ab"
    assert (pair.user_key, pair.filter, pair.request, pair.slices) == ("", None, b"", {"mode": "mirror"})


def test_failures_are_answers(tmp_path: Path) -> None:
    failed = record(1, "model", b"", shadow=True, code=grpc.StatusCode.UNAVAILABLE.value[0])
    ((pair,), _) = read(write_records(tmp_path, record(1, "mesh", answer("a"), MESSAGE), failed))
    assert pair.mesh is not None
    assert pair.mesh.item_ids == ("a",)
    assert pair.model == SideAnswer((), (), "UNAVAILABLE", 250.0)


def test_shadows_far_behind_and_in_other_files_are_found(tmp_path: Path) -> None:
    answers = [record(i, "mesh", answer(i), MESSAGE) for i in range(1, 40)]
    shadows = [record(i, "model", answer(i, 99), shadow=True) for i in range(1, 40, 2)]
    write_records(tmp_path, *answers, *shadows, limits=FileLimits(1000, 1 << 20, 1e6))
    assert len(record_files(tmp_path)) > 5
    found, skipped = read(tmp_path)
    assert len(found) == 39
    shadowed = [pair for pair in found if pair.model is not None]
    assert len(shadowed) == 20
    for pair in shadowed:
        assert pair.mesh is not None
        assert pair.model is not None
        assert pair.model.item_ids == (*pair.mesh.item_ids, 99)
    assert not skipped


def test_what_does_not_decode_is_counted(tmp_path: Path) -> None:
    write_records(
        tmp_path,
        record(1, "mesh", b"\xff", MESSAGE),
        record(2, "mesh", b"", MESSAGE),
        record(3, "mesh", answer(1), b"\xff"),
        record(4, "model", answer(1), shadow=True),
        record(5, "elsewhere", answer(1), MESSAGE),
        record(6, "mesh", answer(1), MESSAGE),
    )
    found, skipped = read(tmp_path)
    assert len(found) == 1
    assert skipped.counted == {
        "answers that do not decode": 1,
        "answers without content": 1,
        "requests that do not decode": 1,
        "shadows without their answers": 1,
        "records of another schema": 1,
    }
    assert skipped.first["shadows without their answers"] == "call 0000000000000004"


def test_a_filter_without_a_text_is_told(tmp_path: Path) -> None:
    request = mesh.RetrieveRequest(filter={"match": {"field": "a b", "strings": ["de"]}}).SerializeToString()
    ((pair,), skipped) = read(write_records(tmp_path, record(1, "mesh", answer(1), request)))
    assert pair.filter is None
    assert skipped.counted == {"filters that have no text: compared without a filter": 1}


def test_recordings_that_are_cut_or_none(tmp_path: Path) -> None:
    for name in ("1", "2"):
        write_records(tmp_path / name, *(record(i, "mesh", answer(i), MESSAGE) for i in range(3)))
        ((path, _, _),) = record_files(tmp_path / name)
        path.rename(tmp_path / f"recorded-{name}.binpb")
    (tmp_path / "recorded-3.binpb").write_bytes(b"PAR1" * 100)
    cut = tmp_path / "recorded-1.binpb"
    cut.write_bytes(cut.read_bytes()[:-3])
    assert is_recording(tmp_path)
    assert is_recording(cut)
    found, skipped = read(tmp_path)
    assert len(found) == 5
    assert skipped.counted == {"files that end in the middle": 1, "files that cannot be read": 1}
    assert f"{cut}, byte " in skipped.first["files that end in the middle"]
    assert "recorded-3.binpb holds no record at byte 0" in skipped.first["files that cannot be read"]
    with pytest.raises(InvalidData, match=r"recorded-3\.binpb holds no record at byte 0"):
        read(tmp_path / "recorded-3.binpb")
    assert not is_recording(tmp_path / "1")
    with pytest.raises(InvalidData, match="holds no recording"):
        read(tmp_path / "1")
