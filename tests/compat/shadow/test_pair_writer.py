from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from meshfold.compat.shadow.pair_files import read_pairs
from meshfold.compat.shadow.pair_writer import PairLimits, PairWriter, pair_files
from meshfold.compat.shadow.pairs import Pair, SideAnswer

ANSWER = SideAnswer(tuple(range(100)), tuple(float(i) for i in range(100)))


def pair(number: int) -> Pair:
    return Pair(f"r{number}", mesh=ANSWER, model=ANSWER)


def numbers(folder: Path) -> list[int]:
    return sorted(int(found.request_id[1:]) for found in read_pairs(folder))


@pytest.mark.parametrize(
    "limits", [PairLimits(file_rows=3), PairLimits(file_bytes=45_000), PairLimits(file_age_s=0)]
)
def test_a_file_is_written_when_enough_waits(tmp_path: Path, limits: PairLimits) -> None:
    writer = PairWriter(tmp_path, limits)
    for number in range(4):
        writer.append(pair(number))
    assert writer.written == (4 if limits.file_age_s == 0 else 3)
    writer.close()
    assert numbers(tmp_path) == [0, 1, 2, 3]
    assert len(pair_files(tmp_path)) == (4 if limits.file_age_s == 0 else 2)


def test_what_waits_is_written_in_time(tmp_path: Path) -> None:
    writer = PairWriter(tmp_path, PairLimits(file_age_s=3600))
    writer.append(pair(1))
    writer.tick()
    assert not pair_files(tmp_path)
    writer._begun_s -= 3600
    writer.tick()
    assert numbers(tmp_path) == [1]
    writer.close()
    assert len(pair_files(tmp_path)) == 1


def test_the_oldest_files_go(tmp_path: Path) -> None:
    writer = PairWriter(tmp_path, PairLimits(file_rows=1, bytes=60_000))
    for number in range(60):
        writer.append(pair(number))
    assert sum(size for _, size, _ in pair_files(tmp_path)) <= 60_000
    kept = numbers(tmp_path)
    assert 1 < len(kept) < 60
    assert kept == list(range(60 - len(kept), 60))
    for path, _, _ in pair_files(tmp_path)[:-1]:
        os.utime(path, (0, 0))
    writer.tick()
    assert numbers(tmp_path) == [59]


def test_writers_share_a_folder(tmp_path: Path) -> None:
    writers = [PairWriter(tmp_path, PairLimits(file_rows=2)) for _ in range(3)]
    for number in range(30):
        writers[number % 3].append(pair(number))
    assert numbers(tmp_path) == list(range(30))


def test_what_a_dead_writer_left_goes(tmp_path: Path) -> None:
    left, recent = tmp_path / ".pairs-1-a.parquet.new", tmp_path / ".pairs-2-b.parquet.new"
    for path in (left, recent):
        path.write_bytes(b"PAR1")
    os.utime(left, (0, 0))
    PairWriter(tmp_path).tick()
    assert (left.exists(), recent.exists()) == (False, True)


def test_a_full_disk_drops_counts_and_goes_on(tmp_path: Path) -> None:
    writer = PairWriter(tmp_path, PairLimits(file_rows=2))
    writer.append(pair(0))
    writer.append(pair(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Files end at 1,000 bytes, as on a disk that is full.
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        for number in range(2, 6):
            writer.append(pair(number))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (writer.written, writer.dropped) == (2, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [pair_files(tmp_path)[0][0].name]
    writer._files.failed_s = float("-inf")
    writer.append(pair(6))
    writer.close()
    assert numbers(tmp_path) == [0, 1, 6]


def test_a_folder_that_cannot_be_made_drops(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = PairWriter(tmp_path / "file" / "pairs")
    writer.append(pair(1))
    writer.close()
    writer.tick()
    assert (writer.written, writer.dropped) == (0, 1)


def test_a_pair_that_no_row_can_hold_costs_itself(tmp_path: Path) -> None:
    writer = PairWriter(tmp_path)
    odd = (Pair("odd", mesh=SideAnswer((1 << 64,))), Pair("\ud800"), Pair("two", mesh=SideAnswer(("a", 1))))  # type: ignore[arg-type]
    for one in (pair(0), *odd, pair(1)):
        writer.append(one)
    writer.close()
    assert (writer.written, writer.dropped) == (2, 3)
    assert numbers(tmp_path) == [0, 1]
