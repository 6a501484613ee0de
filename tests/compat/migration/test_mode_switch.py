from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from meshfold.compat.migration.mode_file import ModeFile
from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.modes import MOST_CHARACTERS, Kind, Mode, Modes
from meshfold.model.errors import NotDurable
from tests.compat.migration.beside import beside, said
from tests.waiting import wait_until

MESH, SERVE, ONLY = Mode(Kind.MESH), Mode(Kind.SERVE), Mode(Kind.ONLY)
Make = Callable[..., ModeSwitch]


@pytest.fixture
def make() -> Iterator[Make]:
    """(folder of modes.json, on_kill) -> a switch that is started."""
    made: list[ModeSwitch] = []

    def make(folder: Path, on_kill: Callable[[], None] = lambda: None) -> ModeSwitch:
        switch = ModeSwitch(ModeFile(folder / "modes.json"), on_kill)
        made.append(switch)
        switch.start()
        return switch

    yield make
    for switch in made:
        switch.stop()


def kept(folder: Path) -> Modes:
    modes = ModeFile(folder / "modes.json").read()
    assert modes is not None
    return modes


def test_a_change_is_in_effect_and_kept(make: Make, tmp_path: Path) -> None:
    one = make(tmp_path)
    one.set("feed", SERVE, "me", "try")
    assert one.current.of("feed") == SERVE
    assert kept(tmp_path) == one.current
    assert (one.current.history[0].who, one.current.history[0].why) == ("me", "try")
    assert one.current.history[0].unix_ms > 1_700_000_000_000
    one.set("feed", None, "me", "back to the default")
    assert (one.current.of("feed"), one.current.surfaces) == (MESH, {})


def test_two_that_share_a_file_lose_no_change(make: Make, tmp_path: Path) -> None:
    switches = [make(tmp_path) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        for i in range(40):
            pool.submit(switches[i % 2].set, f"surface {i}", SERVE, "", "")
    assert (kept(tmp_path).generation, len(kept(tmp_path).surfaces)) == (40, 40)
    wait_until(lambda: all(switch.current == kept(tmp_path) for switch in switches))
    assert len(switches[0].history(1000)) == 40


def test_what_another_process_changes_comes_into_effect_and_is_logged(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kills: list[int] = []
    one = make(tmp_path, lambda: kills.append(1))
    one.set("", SERVE, "me", "a reason\nin lines")
    assert (
        "the mode of the default: mesh -> serve, generation 1, by 'me': 'a reason\\nin lines'" in caplog.text
    )
    with beside("follow", tmp_path / "modes.json") as other:
        assert other.stdout is not None
        one.set("", ONLY, "me", "")
        assert other.stdout.readline() == "only\n"
        one.kill("me", "broken")
        assert other.stdout.readline() == "mesh\n"
        assert kills == [1]
    one.set("", SERVE, "me", "")
    one.set("feed", ONLY, "me", "")
    with beside("kill", tmp_path / "modes.json"):
        wait_until(lambda: {one.current.of("feed"), one.current.of("video")} == {MESH})
    assert "kill: the mesh answers every surface, generation 6, by 'another process': ''" in caplog.text
    wait_until(lambda: len(kills) == 2)


def test_a_surface_that_follows_the_default_again_is_logged_with_who_and_why(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one, other = make(tmp_path), make(tmp_path)
    one.set("feed", SERVE, "me", "try")
    wait_until(lambda: other.current == one.current)
    caplog.clear()
    one.set("feed", None, "you", "enough")
    wait_until(lambda: other.current == one.current)
    line = "the mode of 'feed': serve -> mesh, generation 2, by 'you': 'enough'"
    assert [record.getMessage() for record in caplog.records] == [line, line]


def test_a_copy_that_was_put_back_is_followed_and_logged(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = make(tmp_path)
    one.set("feed", SERVE, "me", "")
    shutil.copy2(tmp_path / "modes.json", tmp_path / "copy")
    one.set("feed", ONLY, "me", "")
    one.set("video", ONLY, "me", "")
    (tmp_path / "copy").rename(tmp_path / "modes.json")
    wait_until(lambda: one.current.generation == 1)
    assert one.current == kept(tmp_path)
    assert "the modes went back from generation 3 to 1" in caplog.text
    assert "the mode of 'feed': only -> serve, generation 1" in caplog.text
    assert "the mode of 'video': only -> mesh, generation 1" in caplog.text
    one.set("feed", MESH, "me", "")
    assert kept(tmp_path).generation == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "is gone; the next change"), ("", "holds no modes"), ("{" * 90_000, "holds no modes")],
)
def test_a_file_that_cannot_be_read_any_more_leaves_what_is_in_effect(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None, said: str
) -> None:
    one = make(tmp_path)
    one.set("feed", SERVE, "me", "")
    assert (one.readable, one.trouble) == (True, "")
    file, copy = tmp_path / "modes.json", (tmp_path / "modes.json").read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    wait_until(lambda: not one.readable)
    assert said in one.trouble
    assert one.current.of("feed") == SERVE
    time.sleep(0.5)
    assert caplog.text.count("the modes stay as they are, and those of other servers are not seen") == 1
    file.write_bytes(copy)
    wait_until(lambda: one.readable)
    assert "can be read again" in caplog.text


def test_a_file_that_is_gone_is_written_again_with_all_that_was_in_effect(make: Make, tmp_path: Path) -> None:
    one = make(tmp_path)
    one.set("feed", SERVE, "me", "")
    (tmp_path / "modes.json").unlink()
    one.set("video", ONLY, "me", "")
    assert kept(tmp_path) == one.current
    assert (one.current.of("feed"), one.current.generation) == (SERVE, 2)
    (tmp_path / "modes.json").unlink()
    one.kill("me", "")
    assert kept(tmp_path).of("feed") == MESH


def test_a_change_that_cannot_be_written_is_not_in_effect(make: Make, tmp_path: Path) -> None:
    one = make(tmp_path / "gone")
    (tmp_path / "gone").write_text("in the way")
    with pytest.raises(NotDurable, match="nothing was changed: .*cannot be (written|read)"):
        one.set("feed", SERVE, "me", "")
    assert one.current == Modes()


def test_a_kill_that_cannot_be_written_is_in_effect_and_written_when_it_can_be(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "modes"
    one, other = make(folder), make(folder)
    one.set("", SERVE, "me", "")
    one.set("feed", ONLY, "me", "")
    folder.rename(tmp_path / "away")
    folder.write_text("in the way")
    with pytest.raises(
        NotDurable, match="the mesh answers everything here now, but a restart would bring back"
    ):
        one.kill("me", "broken")
    assert {one.current.of("feed"), one.current.of("video")} == {MESH}
    assert one.killed_unwritten
    assert "a kill is in effect here that is not durable yet, nor seen by other servers" in one.trouble
    time.sleep(0.5)
    assert caplog.text.count("a kill is in effect that is not durable yet") == 1
    # What is kept, and comes back, is not the later word.
    assert one.current.of("feed") == MESH

    folder.unlink()
    shutil.move(tmp_path / "away", folder)
    wait_until(lambda: not one.killed_unwritten)
    assert kept(folder).of("feed") == MESH
    wait_until(lambda: other.current == kept(folder))
    one.set("video", SERVE, "me", "")
    assert (one.current.of("feed"), one.current.of("music"), one.current.of("video")) == (MESH, MESH, SERVE)
    assert kept(folder) == one.current


def test_a_kill_while_another_process_holds_the_lock_is_in_effect_and_written_after(
    make: Make, tmp_path: Path
) -> None:
    one, other = make(tmp_path), make(tmp_path)
    one.set("", SERVE, "me", "")
    with beside("hold", tmp_path / "modes.json"):
        with pytest.raises(
            NotDurable, match="servers that share them do not see it yet: another process has held"
        ):
            one.kill("me", "broken")
        assert one.current.of("feed") == MESH
        assert kept(tmp_path).of("feed") == SERVE
        with pytest.raises(NotDurable, match=r"nothing was changed: .*modes.json"):
            one.set("feed", ONLY, "me", "")
        assert one.current.of("feed") == MESH
    wait_until(lambda: not one.killed_unwritten)
    assert kept(tmp_path) == one.current
    wait_until(lambda: other.current.of("feed") == MESH)


def test_a_kill_that_was_never_written_is_tried_once_more_at_the_stop(make: Make, tmp_path: Path) -> None:
    one = make(tmp_path)
    one.set("", SERVE, "me", "")
    with beside("hold", tmp_path / "modes.json"):
        with pytest.raises(NotDurable):
            one.kill("me", "broken")
        stopping = threading.Thread(target=one.stop)
        stopping.start()
    stopping.join()
    assert kept(tmp_path).of("") == MESH


def test_a_kill_with_texts_that_are_too_long_is_a_kill(make: Make, tmp_path: Path) -> None:
    one = make(tmp_path)
    one.set("", SERVE, "me", "")
    one.kill("w" * 5000, "y" * 5000)
    assert one.current.of("") == MESH
    assert one.current.default.why == "y" * MOST_CHARACTERS


class Slow(ModeFile):
    """A file whose writes wait until they may go on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.writing = threading.Event()
        self.may_go_on = threading.Event()

    def _write(self, content: bytes) -> None:
        self.writing.set()
        assert self.may_go_on.wait(10)
        super()._write(content)


def test_a_kill_waits_for_no_write_and_outlasts_a_change_that_was_under_way(tmp_path: Path) -> None:
    slow = Slow(tmp_path / "modes.json")
    one = ModeSwitch(slow)
    one.start()
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
    for modes in (one.current, kept(tmp_path)):
        assert {modes.of("feed"), modes.of("video")} == {MESH}
        assert [change.kill for change in modes.history[:2]] == [True, False]
    one.stop()


def test_a_disk_that_hangs_holds_up_neither_a_kill_nor_the_next_change(tmp_path: Path) -> None:
    slow = Slow(tmp_path / "modes.json")
    one = ModeSwitch(slow)
    one.start()
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(one.set, "", ONLY, "me", "")
        assert slow.writing.wait(10)
        with pytest.raises(NotDurable, match="(within|over) 1 s; this server goes on trying"):
            one.kill("me", "broken")
        with pytest.raises(NotDurable, match="nothing was changed: .* has been read or written for over 1 s"):
            one.set("feed", ONLY, "me", "")
        slow.may_go_on.set()
        hanging.result(10)
    wait_until(lambda: not one.killed_unwritten)
    assert one.current == kept(tmp_path)
    assert one.current.of("feed") == MESH
    one.stop()


def test_modes_outlast_writers_that_are_killed_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "modes.json"
    assert said("die", path) == "done\n"
    written = kept(tmp_path).generation
    assert written > 0
    one = ModeSwitch(ModeFile(path))
    last = one.set("feed", SERVE, "me", "the last")
    assert last.generation == written + 1
    # Every change is in the history, as each writer catches up on the one before.
    assert len(one.history(1_000_000)) == written + 1


def test_a_folder_that_nobody_may_enter_any_more_is_told_and_a_kill_works(tmp_path: Path) -> None:
    one = ModeSwitch(ModeFile(tmp_path / "modes.json"))
    one.set("", SERVE, "me", "")
    killed, read = said("denied", tmp_path / "modes.json").splitlines()
    assert killed.startswith("mesh the mesh answers everything here now")
    assert "Permission denied" in killed
    assert read.endswith("modes.json cannot be read: Permission denied")
    assert kept(tmp_path).of("") == MESH
