from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshfold.compat.migration.mode_history import ModeHistory
from meshfold.compat.migration.modes import MOST_CHANGES, Change, Kind, Mode, Modes


def changed(modes: Modes, count: int, who: str = "me", why: str = "") -> Modes:
    for i in range(count):
        modes = modes.changed(Change("feed", Mode(Kind.CANARY, i % 100), who, why, modes.generation))
    return modes


def times(history: ModeHistory, count: int = 10_000) -> list[int]:
    """unix_ms of what is logged, oldest first; `changed` counts them up."""
    return [change.unix_ms for change in reversed(history.latest(count))]


def test_a_burst_of_changes_erases_none(tmp_path: Path) -> None:
    history = ModeHistory(tmp_path / "history")
    modes = Modes()
    for _ in range(3 * MOST_CHANGES):
        modes = changed(modes, 1, why="line\nfeed \u2028 and \x85")
        history.append(modes)
    assert times(history) == list(range(3 * MOST_CHANGES))
    assert history.latest(1) == [modes.history[0]]
    assert len(history.latest(250)) == 250


def test_nothing_is_logged_twice_and_what_a_killed_writer_left_out_is_caught_up(tmp_path: Path) -> None:
    history = ModeHistory(tmp_path / "history")
    modes = changed(Modes(), 3)
    history.append(modes)
    history.append(modes)
    history.append(changed(modes, 5))
    assert times(history) == list(range(8))


def test_a_copy_that_was_put_back_goes_on_from_there(tmp_path: Path) -> None:
    history = ModeHistory(tmp_path / "history")
    copy = changed(Modes(), 4)
    history.append(copy)
    history.append(changed(copy, 5))
    history.append(changed(copy, 1, who="after"))
    assert times(history) == [*range(9), 4]
    assert history.latest(1)[0].who == "after"


@pytest.mark.parametrize("torn", [1, 30, 100])
def test_a_line_that_was_cut_off_costs_no_other(tmp_path: Path, torn: int) -> None:
    history = ModeHistory(tmp_path / "history")
    modes = changed(Modes(), 3)
    history.append(modes)
    content = (tmp_path / "history").read_bytes()
    (tmp_path / "history").write_bytes(content[:-torn])
    history.append(changed(modes, 1))
    assert times(history) == [0, 1, 2, 3]


def test_bytes_that_are_no_changes_are_passed_over(tmp_path: Path) -> None:
    history = ModeHistory(tmp_path / "history")
    noise = (b"\xff\xfe", b"[" * 5000, b"3", b'{"generation": true}', b'{"generation": 1, "surface": 3}', b"")
    (tmp_path / "history").write_bytes(b"\n".join(noise))
    history.append(changed(Modes(), 2))
    assert times(history) == [0, 1]


def test_two_files_hold_the_latest_and_no_more(tmp_path: Path) -> None:
    history = ModeHistory(tmp_path / "history", file_bytes=4000)
    modes = Modes()
    for _ in range(100):
        modes = changed(modes, 1)
        history.append(modes)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.keys() == {"history", "history.1"}
    assert all(size <= 4000 for size in sizes.values())
    kept = times(history)
    assert kept == list(range(100 - len(kept), 100))
    assert len(kept) > 25
    for line in (tmp_path / "history").read_text().splitlines():
        assert json.loads(line)["surface"] == "feed"
