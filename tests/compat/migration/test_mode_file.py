from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.compat.migration.mode_file import ModeFile
from meshfold.compat.migration.modes import Change, Kind, Mode, Modes
from meshfold.model.errors import InvalidConfig, InvalidQuery, NotDurable
from tests.compat.migration.beside import beside

CHANGED = Modes().changed(
    Change("feed", Mode(Kind.CANARY, 2.5), "me@here", 'first "try"\n', 1_700_000_000_000)
)


def to(modes: Modes) -> Callable[[Modes | None], Modes]:
    return lambda _: modes


def test_what_was_never_written_is_nothing(tmp_path: Path) -> None:
    assert ModeFile(tmp_path / "none" / "modes.json").read() is None


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = ModeFile(tmp_path / "new" / "modes.json")
    assert file.change(to(CHANGED)) == CHANGED
    assert file.read() == CHANGED
    assert file.read() is file.read()
    killed = CHANGED.killed("me", "", 5)
    file.change(to(killed))
    assert file.read() == ModeFile(tmp_path / "new" / "modes.json").read() == killed


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.builds(Change, st.text(max_size=9), st.just(Mode(Kind.ONLY)), st.text(), st.text()), max_size=4
    )
)
def test_every_name_and_text_survives(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Change]
) -> None:
    modes = Modes()
    for change in changes:
        modes = modes.changed(change)
    file = ModeFile(tmp_path_factory.mktemp("modes") / "modes.json")
    file.change(to(modes))
    assert file.read() == modes
    assert file.history(10) == list(modes.history)


def test_who_changes_has_what_the_other_wrote(tmp_path: Path) -> None:
    one, other = ModeFile(tmp_path / "modes.json"), ModeFile(tmp_path / "modes.json")
    assert other.read() is None
    one.change(to(CHANGED))
    found: list[Modes | None] = []

    def change(modes: Modes | None) -> Modes:
        found.append(modes)
        raise InvalidQuery("mode", "no")

    with pytest.raises(InvalidQuery):
        other.change(change)
    assert found == [CHANGED]
    assert one.change(to(CHANGED)) == CHANGED


def test_a_write_that_was_cut_off_leaves_what_was(tmp_path: Path) -> None:
    file = ModeFile(tmp_path / "modes.json")
    file.change(to(CHANGED))
    (tmp_path / "modes.json.new").write_text('{"format": 1, "gen')
    assert file.read() == CHANGED
    file.change(to(CHANGED.killed("", "", 0)))
    read = file.read()
    assert read is not None
    assert read.generation == 2


def test_a_lock_that_another_process_holds_is_named(tmp_path: Path) -> None:
    file = ModeFile(tmp_path / "modes.json")
    with beside("hold", tmp_path / "modes.json"):
        with pytest.raises(NotDurable, match=r"another process has held .*/modes.json.lock for 0.5 s"):
            file.change(to(CHANGED))
        assert file.read() is None
    file.change(to(CHANGED))


def test_a_lock_file_that_was_removed_locks_nothing(tmp_path: Path) -> None:
    file = ModeFile(tmp_path / "modes.json")
    with beside("hold", tmp_path / "modes.json"):
        (tmp_path / "modes.json.lock").unlink()
        file.change(to(CHANGED))
    assert file.read() == CHANGED


def text(**changes: object) -> str:
    file = {"format": 1, "generation": 0, "default": change(), "surfaces": [], "history": [], **changes}
    return json.dumps(file)


def change(**changes: object) -> dict[str, object]:
    whole = {"surface": "", "mode": "mesh", "percent": 0.0, "who": "", "why": "", "unix_ms": 0, "kill": False}
    return {**whole, **changes}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "Expecting value"),
        (text()[:-9], "modes.json holds no modes"),
        ("[]", "must be an object of format, generation"),
        (text(format=2), "its format is 2, and 1 is known"),
        (text(generation="1"), "generation does not hold '1'"),
        (text(more=1), "must be an object of"),
        (text(default=change(mode="half")), "'half' is not a valid Kind"),
        (text(default=change(percent=5)), "goes with canary alone"),
        (text(default=change(kill=1)), "default.kill does not hold 1"),
        (text(default=change(surface="feed")), "the default has none"),
        (text(surfaces=[change()]), "surfaces have names"),
        (text(surfaces=[change(surface="feed", percent=True)]), r"surfaces\[0\].percent does not hold True"),
        (text(history=[3]), r"history\[0\] must be an object"),
        (text(generation=1 << 63), "generation must be 0 to 2"),
        (text(generation=-1), "generation must be 0 to 2"),
        (text(default=change(unix_ms=1 << 70)), "unix_ms must be 0 to 2"),
        (text(default=change(who="\ud800")), "surrogates not allowed"),
        (text(default=change(percent=float("nan"))), "0 to 100, got nan"),
        (text(generation="9" * 5000), "does not hold '9999"),
        ("[" * 100_000, "nested too deeply"),
        ("\0" * 5, "Expecting value"),
        (" " * ((8 << 20) + 1), "longer than 8388608 bytes"),
    ],
)
def test_a_file_that_holds_no_modes_says_what_and_the_remedy(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "modes.json").write_text(content)
    with pytest.raises(InvalidConfig, match=said) as caught:
        ModeFile(tmp_path / "modes.json").read()
    assert "put back a copy, or remove it" in str(caught.value)


def test_the_texts_of_these_tests_are_files_otherwise(tmp_path: Path) -> None:
    (tmp_path / "modes.json").write_text(text())
    assert ModeFile(tmp_path / "modes.json").read() == Modes()


def test_a_place_that_cannot_be_written_or_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotDurable, match="cannot be written to .*file/modes.json: "):
        ModeFile(tmp_path / "file" / "modes.json").change(to(CHANGED))
    os.mkdir(tmp_path / "modes.json")
    os.mkfifo(tmp_path / "fifo.json")
    for name in ("modes.json", "fifo.json"):
        file = ModeFile(tmp_path / name)
        open_files = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with pytest.raises(InvalidConfig, match="cannot be read: it is not a regular file"):
                file.read()
        assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_history_that_cannot_be_written_holds_no_change_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = tmp_path / "modes.json.history"
    history.mkdir()
    file = ModeFile(tmp_path / "modes.json")
    file.change(to(CHANGED))
    assert "the change of modes is kept, but not in" in caplog.text
    with pytest.raises(InvalidConfig, match="modes.json.history cannot be read"):
        file.history(5)
    history.rmdir()
    killed = CHANGED.killed("me", "", 5)
    file.change(to(killed))
    assert file.history(5) == list(killed.history)
