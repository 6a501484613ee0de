"""A state in a file with its history beside it: also what a killed writer left out, and after a copy was put back."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshfold.model.errors import InvalidConfig, NotDurable
from meshfold.service.state import begin, open_state
from meshfold.service.state_file import StateFile
from meshfold.service.state_log import LoggedFile
from tests.service.shared_redis import NAMES, Names, adds


def logged(state: LoggedFile[Names]) -> Sequence[tuple[int, str]]:
    return [(entry["generation"], entry["name"]) for entry in state.history(100)]


def test_every_change_is_logged(tmp_path: Path) -> None:
    written: list[Names] = []
    one = LoggedFile(tmp_path / "names.json", NAMES, written.append)
    other = LoggedFile(tmp_path / "names.json", NAMES)
    for state, name in ((one, "x"), (other, "y"), (one, "z")):
        state.change(adds(name))
    assert logged(one) == [(3, "z"), (2, "y"), (1, "x")]
    assert [state.generation for state in written] == [1, 3]
    assert one.last == Names(3, ("x", "y", "z"))


def test_what_a_killed_writer_left_out_is_logged_with_the_next_change(tmp_path: Path) -> None:
    one = LoggedFile(tmp_path / "names.json", NAMES)
    one.change(adds("x"))
    # As a writer that is killed between the file and its history.
    for name in ("y", "z"):
        StateFile(tmp_path / "names.json", NAMES).change(adds(name))
    one.change(adds("last"))
    assert logged(one) == [(4, "last"), (3, "z"), (2, "y"), (1, "x")]


def test_changes_after_a_copy_was_put_back_are_logged(tmp_path: Path) -> None:
    one = LoggedFile(tmp_path / "names.json", NAMES)
    one.change(adds("x"))
    shutil.copy(tmp_path / "names.json", tmp_path / "copy")
    one.change(adds("y"))
    shutil.copy(tmp_path / "copy", tmp_path / "names.json")
    one.change(adds("other"))
    one.change(lambda kept: kept or Names())
    assert logged(one) == [(2, "other"), (2, "y"), (1, "x")]


def test_a_history_that_cannot_be_written_holds_no_change_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "names.json.history").mkdir()
    one = LoggedFile(tmp_path / "names.json", NAMES)
    one.change(adds("x"))
    assert "the change of the known names is kept, but not in" in caplog.text
    with pytest.raises(NotDurable, match=r"names.json.history cannot be read"):
        one.history(5)


def test_a_server_does_not_begin_with_a_file_that_it_cannot_read(tmp_path: Path) -> None:
    state = open_state(str(tmp_path / "names.json"), NAMES)
    assert begin(state, "") == (None, "")
    assert not state.keep(Names())
    (tmp_path / "names.json").write_text("{")
    with pytest.raises(InvalidConfig, match="holds no known names"):
        begin(state, "")
    state.close()
