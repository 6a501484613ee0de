from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import meshfold.compat.shadow.live.sender as sender_module
from meshfold.compat.migration.bounded_queue import BoundedQueue
from meshfold.compat.shadow.live.asked_pair import AskedPair
from meshfold.compat.shadow.live.sender import Sender
from tests.compat.shadow.live_world import answer, pair, rows, sender
from tests.waiting import wait_until


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Sender, BoundedQueue[AskedPair]]]:
    made = sender(tmp_path / "pairs", queue=20)
    made.start()
    yield made, made.queue
    made.stop(0)


Running = tuple[Sender, BoundedQueue[AskedPair]]


def test_a_process_that_is_killed_is_started_again_and_what_it_had_is_counted(
    running: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, queue = running
    for number in range(3):
        queue.offer(pair(number), 100)
    wait_until(lambda: made.written == 3)
    assert made.pid is not None
    os.kill(made.pid, signal.SIGKILL)
    wait_until(lambda: not made.running)
    wait_until(lambda: made.starts == 2 and made.running)
    for number in range(3, 6):
        queue.offer(pair(number), 100)
    wait_until(lambda: made.written == 6)
    assert made.tallies["shop"].pairs == {"compared": 6}
    assert made.tallies["shop"].distributions["overlap"].total == 6
    assert len(rows(tmp_path / "pairs")) == 6
    assert "the comparing process is started again" in caplog.text
    assert "it ended with signal 9" in caplog.text
    # What it was sent and had not written when it was killed is lost, and counted.
    os.kill(made.pid, signal.SIGSTOP)
    for number in range(6, 9):
        queue.offer(pair(number), 100)
    wait_until(lambda: len(queue) == 0)
    os.kill(made.pid, signal.SIGKILL)
    wait_until(lambda: made.lost["process"] == 3)


def test_a_process_that_hangs_costs_pairs_and_no_time(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, queue = running
    queue.offer(pair(), 100)
    wait_until(lambda: made.written == 1)
    assert made.pid is not None
    os.kill(made.pid, signal.SIGSTOP)
    # More than a pipe holds.
    large = pair(1, mesh=answer(range(20_000)))
    start_s = time.monotonic()
    for _ in range(60):
        queue.offer(large, large.size_bytes)
    assert time.monotonic() - start_s < 5
    assert queue.dropped >= 35
    # One that is silent for too long is ended, and another started.
    monkeypatch.setattr(sender_module, "_SILENCE_S", 1.0)
    wait_until(lambda: made.starts == 2 and made.pid is not None)
    monkeypatch.undo()
    assert "it was silent and was ended" in caplog.text
    assert made.pid is not None
    os.kill(made.pid, signal.SIGSTOP)
    dropped = queue.dropped
    for _ in range(60):
        queue.offer(large, large.size_bytes)
    # One that takes nothing any more ends with the stop's grace.
    start_s = time.monotonic()
    made.stop(1.0)
    assert time.monotonic() - start_s < 20
    assert queue.dropped - dropped >= 35
    # 121 pairs: one was written, the others are counted.
    assert (made.written, made.lost["process"] + made.lost["stop"] + queue.dropped) == (1, 120)
    assert not made.running


def test_a_stop_has_the_last_pairs_written(tmp_path: Path) -> None:
    made = sender(tmp_path / "pairs", file_age_s=3600.0)
    for number in range(5):
        made.queue.offer(pair(number), 100)
    made.start()
    made.stop(60)
    assert (made.written, made.lost, made.running) == (5, {}, False)
    assert [row["mesh_item_ids"] for row in rows(tmp_path / "pairs")] == [[1, 2, 3, 4, 5]] * 5


def test_a_folder_that_cannot_be_written_costs_pairs_until_it_can(
    running: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, queue = running
    # Where the folder should be.
    (tmp_path / "pairs").write_text("full")
    queue.offer(pair(), 100)
    queue.offer(pair(1, mesh=b"\xff no answer"), 100)
    wait_until(lambda: made.lost["folder"] == 1)
    assert made.lost["undecodable"] == 1
    assert f"could not be written to {tmp_path / 'pairs'}: " in caplog.text
    (tmp_path / "pairs").unlink()

    def written() -> bool:
        queue.offer(pair(2), 100)
        return made.written > 0

    wait_until(written)
    assert made.starts == 1
