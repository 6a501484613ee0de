from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.compat.migration.mode_file import ModeFile, Outdated
from meshfold.compat.migration.modes import Change, Kind, Mode, Modes
from meshfold.model.errors import InvalidConfig, NotDurable

CHANGED = Modes().changed(
    Change("feed", Mode(Kind.CANARY, 2.5), "me@here", 'first "try"\n', 1_700_000_000_000)
)


def test_what_was_never_written_is_the_mesh_answering(tmp_path: Path) -> None:
    assert ModeFile(tmp_path / "none" / "modes.json").read() == Modes()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = ModeFile(tmp_path / "new" / "modes.json")
    file.replace(CHANGED, 0)
    assert file.read() == CHANGED
    killed = CHANGED.killed("me", "", 5)
    file.replace(killed, 1)
    assert ModeFile(tmp_path / "new" / "modes.json").read() == killed


@settings(deadline=None)
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
    file.replace(modes, 0)
    assert file.read() == modes


def test_who_comes_second_is_told_so(tmp_path: Path) -> None:
    one, other = ModeFile(tmp_path / "modes.json"), ModeFile(tmp_path / "modes.json")
    one.replace(CHANGED, 0)
    with pytest.raises(Outdated):
        other.replace(Modes().changed(Change("video", Mode(Kind.MIRROR))), 0)
    assert other.read() == CHANGED


def test_a_write_that_was_cut_off_leaves_what_was(tmp_path: Path) -> None:
    file = ModeFile(tmp_path / "modes.json")
    file.replace(CHANGED, 0)
    (tmp_path / "modes.json.new").write_text('{"format": 1, "gen')
    assert file.read() == CHANGED
    file.replace(CHANGED.killed("", "", 0), 1)
    assert file.read().generation == 2


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
        ModeFile(tmp_path / "file" / "modes.json").replace(CHANGED, 0)
    os.mkdir(tmp_path / "modes.json")
    with pytest.raises(InvalidConfig, match="cannot be read"):
        ModeFile(tmp_path / "modes.json").read()
