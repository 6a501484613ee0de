from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from meshfold.compat.migration.mode_file import ModeFile
from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.modes import Kind, Mode, Modes
from meshfold.model.errors import NotDurable

MESH, SERVE, ONLY = Mode(Kind.MESH), Mode(Kind.SERVE), Mode(Kind.ONLY)


def switch(folder: Path) -> ModeSwitch:
    return ModeSwitch(ModeFile(folder / "modes.json"))


def test_a_change_is_in_effect_and_kept(tmp_path: Path) -> None:
    one = switch(tmp_path)
    one.set("feed", SERVE, "me", "try")
    assert one.current.of("feed") == SERVE
    assert switch(tmp_path).current == one.current
    assert (one.current.history[0].who, one.current.history[0].why) == ("me", "try")
    assert one.current.history[0].unix_ms > 1_700_000_000_000
    one.set("feed", None, "me", "back to the default")
    assert (one.current.of("feed"), one.current.surfaces) == (MESH, {})


def test_two_that_share_a_file_lose_no_change(tmp_path: Path) -> None:
    switches = [switch(tmp_path) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        for i in range(40):
            pool.submit(switches[i % 2].set, f"surface {i}", SERVE, "", "")
    kept = switch(tmp_path).current
    assert (kept.generation, len(kept.surfaces)) == (40, 40)


def test_a_change_that_cannot_be_written_is_not_in_effect(tmp_path: Path) -> None:
    one = switch(tmp_path / "gone")
    (tmp_path / "gone").write_text("in the way")
    with pytest.raises(NotDurable, match="cannot be written|cannot be read"):
        one.set("feed", SERVE, "me", "")
    assert one.current == Modes()


def test_a_kill_that_cannot_be_written_is_in_effect_and_written_with_the_next_change(tmp_path: Path) -> None:
    folder = tmp_path / "modes"
    one = switch(folder)
    one.set("", SERVE, "me", "")
    one.set("feed", ONLY, "me", "")
    folder.rename(tmp_path / "away")
    folder.write_text("in the way")
    with pytest.raises(NotDurable, match="the mesh answers everything now, but a restart would bring back"):
        one.kill("me", "broken")
    assert {one.current.of("feed"), one.current.of("video")} == {MESH}

    folder.unlink()
    shutil.move(tmp_path / "away", folder)
    assert switch(folder).current.of("feed") == ONLY
    one.set("video", SERVE, "me", "")
    assert (one.current.of("feed"), one.current.of("music"), one.current.of("video")) == (MESH, MESH, SERVE)
    assert switch(folder).current == one.current


class Slow(ModeFile):
    """A file whose writes wait until they may go on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.writing = threading.Event()
        self.may_go_on = threading.Event()

    def replace(self, modes: Modes, generation: int) -> None:
        self.writing.set()
        assert self.may_go_on.wait(10)
        super().replace(modes, generation)


def test_a_kill_waits_for_no_write_and_outlasts_a_change_that_was_under_way(tmp_path: Path) -> None:
    slow = Slow(tmp_path / "modes.json")
    one = ModeSwitch(slow)
    slow.may_go_on.set()
    one.set("feed", SERVE, "me", "")
    slow.may_go_on.clear()
    slow.writing.clear()
    with ThreadPoolExecutor(2) as pool:
        change = pool.submit(one.set, "", ONLY, "me", "")
        assert slow.writing.wait(10)
        kill = pool.submit(one.kill, "me", "broken")
        while one.current.of("feed") != MESH:
            assert not kill.done()
        slow.may_go_on.set()
        change.result(10)
        kill.result(10)
    for modes in (one.current, switch(tmp_path).current):
        assert {modes.of("feed"), modes.of("video")} == {MESH}
        assert [change.kill for change in modes.history[:2]] == [True, False]
