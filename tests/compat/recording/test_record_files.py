from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest
from google.protobuf.proto import parse_length_prefixed
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.compat.recording.record_files import FileLimits, RecordFiles, read_records, record_files
from meshfold.model.errors import InvalidData
from meshfold.protos.meshfold.v1 import recording_pb2 as pb

MUCH = FileLimits(1 << 20, 1 << 30, 1e6)


def record(number: int, size: int = 0) -> bytes:
    message: bytes = pb.Recorded(call=number, answer=b"x" * size).SerializeToString()
    return message


def calls(place: Path) -> list[int]:
    return [recorded.call for recorded in read_records(place)]


def write(folder: Path, numbers: range, limits: FileLimits = MUCH, size: int = 0) -> None:
    files = RecordFiles(folder, limits)
    for number in numbers:
        files.append(record(number, size))
    files.close()


def test_what_was_written_is_read_by_protobufs_own_reader_too(tmp_path: Path) -> None:
    write(tmp_path / "new", range(300), size=200)
    assert calls(tmp_path / "new") == list(range(300))
    ((path, size, _),) = record_files(tmp_path / "new")
    assert size == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("rb") as file:
        assert [parse_length_prefixed(pb.Recorded, file).call for _ in range(300)] == list(range(300))
    assert calls(path) == list(range(300))


def test_a_file_that_is_full_is_followed_by_another(tmp_path: Path) -> None:
    write(tmp_path, range(20), FileLimits(1000, 1 << 20, 1e6), size=300)
    assert len(record_files(tmp_path)) == 7
    assert all(size <= 1000 for _, size, _ in record_files(tmp_path))
    assert calls(tmp_path) == list(range(20))
    # A record that is larger than a file has one of its own.
    write(tmp_path / "large", range(2), FileLimits(1000, 1 << 20, 1e6), size=5000)
    assert calls(tmp_path / "large") == [0, 1]


def test_the_oldest_files_go_when_all_are_full(tmp_path: Path) -> None:
    write(tmp_path, range(100), FileLimits(1000, 4000, 1e6), size=300)
    assert sum(size for _, size, _ in record_files(tmp_path)) <= 4000
    kept = calls(tmp_path)
    assert kept == list(range(100 - len(kept), 100))
    assert len(kept) >= 6


def test_files_go_when_they_are_too_old_and_others_stay(tmp_path: Path) -> None:
    write(tmp_path, range(1))
    (old,) = [path for path, _, _ in record_files(tmp_path)]
    os.utime(old, (0, time.time() - 100))
    write(tmp_path, range(1, 2))
    (tmp_path / "notes.txt").write_text("not a recording")
    files = RecordFiles(tmp_path, FileLimits(1 << 20, 1 << 30, 50.0))
    files.append(record(2))
    assert calls(tmp_path) == [1, 2]
    files.close()
    for path, _, _ in record_files(tmp_path):
        os.utime(path, (0, time.time() - 100))
    files.expire()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@settings(deadline=None)
@given(st.integers(0, 400))
def test_a_record_that_was_cut_off_ends_its_file(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    write(folder, range(1, 6), size=90)
    ((path, size, _),) = record_files(folder)
    left = max(0, size - cut)
    os.truncate(path, left)
    assert calls(folder) == [1, 2, 3, 4, 5][: left // (size // 5)]
    write(folder, range(6, 8))
    assert calls(folder)[-2:] == [6, 7]


def test_a_write_that_fails_leaves_whole_records(tmp_path: Path) -> None:
    """A limit of the process on the size of files stands for a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    files = RecordFiles(tmp_path, MUCH)
    files.append(record(0, 500))
    resource.setrlimit(resource.RLIMIT_FSIZE, (800, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            files.append(record(1, 500))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    files.append(record(2, 500))
    files.close()
    assert calls(tmp_path) == [0, 2]


@pytest.mark.parametrize("content", [b"\x05hello", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"])
def test_bytes_that_are_no_records_are_told_with_their_place(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, range(1))
    ((path, size, _),) = record_files(tmp_path)
    with path.open("ab") as file:
        file.write(content)
    with pytest.raises(InvalidData, match=f"{path} holds no record at byte {size}"):
        calls(path)


def test_a_place_without_records_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"holds no files of records \(recorded-\*.binpb\)"):
        calls(tmp_path)
    with pytest.raises(InvalidData, match="cannot be read: No such file"):
        calls(tmp_path / "missing.binpb")
