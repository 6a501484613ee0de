from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.proto import parse_length_prefixed

from meshfold.compat.recording.record_files import FileLimits, RecordFiles
from meshfold.compat.recording.summary import groups, write_requests
from meshfold.model.errors import InvalidData
from meshfold.protos.mesh.v1 import orchestrator_pb2 as mesh
from meshfold.protos.meshfold.v1 import recording_pb2 as pb
from tests.compat.migration.conftest import request


def write(folder: Path) -> None:
    files = RecordFiles(folder, FileLimits(1 << 20, 1 << 20, 1e6))
    for number in range(3):
        files.append(
            pb.Recorded(call=number, side="mesh", request=request(number), took_s=number).SerializeToString()
        )
    files.append(pb.Recorded(call=0, side="model", shadow=True, took_s=5.0).SerializeToString())
    files.append(pb.Recorded(call=9, side="mesh", code=14).SerializeToString())
    files.close()


def test_records_are_grouped_by_everything_but_their_times(tmp_path: Path) -> None:
    write(tmp_path)
    found = [(g.side, g.shadow, g.code, g.took_s) for g in groups(tmp_path)]
    assert found == [
        ("mesh", False, 0, [0.0, 1.0, 2.0]),
        ("mesh", False, 14, [0.0]),
        ("model", True, 0, [5.0]),
    ]


def test_requests_are_written_for_replay(tmp_path: Path) -> None:
    write(tmp_path)
    out = tmp_path / "requests.bin"
    assert write_requests(tmp_path, out) == 3
    with out.open("rb") as file:
        users = [parse_length_prefixed(mesh.RetrieveRequest, file).user.user_id for _ in range(3)]
        assert parse_length_prefixed(mesh.RetrieveRequest, file) is None
    assert users == [0, 1, 2]


def test_requests_are_for_their_owner_and_what_is_none_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "recorded")
    files = RecordFiles(tmp_path / "recorded", FileLimits(1 << 20, 1 << 24, 1e6))
    files.append(pb.Recorded(call=5, side="mesh", request=b"\xff").SerializeToString())
    files.close()
    out = tmp_path / "requests.bin"
    assert write_requests(tmp_path / "recorded", out) == 3
    assert out.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["requests.bin"]


def test_a_recording_is_not_written_over(tmp_path: Path) -> None:
    write(tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for place in (tmp_path, path):
        with pytest.raises(InvalidData, match="is part of the recording; name another file"):
            write_requests(place, path)
    assert path.read_bytes() == content
    for out in (tmp_path / "missing" / "out", path / "out"):
        with pytest.raises(InvalidData, match="cannot be written: No"):
            write_requests(tmp_path, out)
    (tmp_path / "recorded-z.binpb").write_bytes(b"\x05hello")
    with pytest.raises(InvalidData, match="holds no record"):
        write_requests(tmp_path, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
