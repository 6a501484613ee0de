from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from meshfold.commands import console

ROWS = [[7, "Heat [1995]", 0.5], [12, "\x1b[31mRed", 0.25]]


def test_a_table_that_goes_elsewhere_is_plain_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["item", "title", "value"], [*ROWS, [1, "x" * 300, 1.0]], "3 results")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 results"
    assert lines[1].split() == ["item", "title", "value"]
    assert lines[2].split() == ["7", "Heat", "[1995]", "0.5000"]
    assert lines[2].startswith("   7  Heat")
    assert "x" * 300 in lines[4]


def test_control_characters_of_a_catalog_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.table(["item", "title", "value"], ROWS)
    assert "\x1b" not in capsys.readouterr().out


def test_a_table_without_rows_shows_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["item", "title"], [])
    assert capsys.readouterr().out == "item  title\n"


def on_a_terminal(code: str) -> str:
    """What a program shows on a terminal of 80 columns."""
    reader, terminal = pty.openpty()
    environ = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=terminal, stderr=terminal, env=environ) as run:
        os.close(terminal)
        shown = b""
        try:
            while data := os.read(reader, 65536):
                shown += data
        except OSError:  # how Linux says that a terminal's last writer is gone
            pass
    os.close(reader)
    assert run.returncode == 0, shown.decode()
    return shown.decode()


def test_a_table_fits_a_terminal_and_takes_no_markup_from_titles() -> None:
    shown = on_a_terminal(
        "from meshfold.commands import console\n"
        f"console.table(['item', 'title', 'value'], {ROWS + [[1, 'long ' * 40, 1.0]]!r}, 'found')"
    )
    assert "Heat [1995]" in shown
    assert "\x1b[31m" not in shown
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines())) <= 80


WORK = """
import time
from meshfold.commands import console
console._PATIENCE_S, console._TICK_S = {patience_s}, 0.01
with console.progress() as progress:
    for done in range(11):
        progress("embedding", done, 10)
        time.sleep(0.02)
"""


@pytest.mark.parametrize(("patience_s", "shows"), [(0.05, True), (60.0, False)])
def test_progress_shows_on_a_terminal_only_what_takes_long(patience_s: float, shows: bool) -> None:
    assert ("embedding" in on_a_terminal(WORK.format(patience_s=patience_s))) is shows


@pytest.mark.parametrize(("patience_s", "lines"), [(0.05, 1), (60.0, 0)])
def test_progress_elsewhere_is_a_line_a_stage(patience_s: float, lines: int) -> None:
    code = WORK.format(patience_s=patience_s)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == lines


SILENT = """
import time
from meshfold.commands import console
console._PATIENCE_S, console._SILENT_S, console._TICK_S = 0.05, 0.1, 0.01
with console.progress() as progress:
    {calls}
    time.sleep(0.5)
"""


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ("pass", "working: 0 s so far"),
        ('progress("reading", 0, 1)', "reading: 0 s so far"),
        ('progress("reading", 1200, 5000)', "reading: 0 s so far, 1,200 of 5,000"),
        ('progress("reading", 0, 1); progress("reading", 1, 1)', "working: 0 s so far"),
        ('progress("reading", 0, 1); progress("hashing", 0, 1)', "hashing: 0 s so far"),
        (
            'progress("reading", 0, 1); progress("hashing", 0, 1); progress("hashing", 1, 1)',
            "reading: 0 s so far",
        ),
    ],
)
def test_a_stage_that_says_nothing_is_told_again_and_again(calls: str, said: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SILENT.format(calls=calls)], capture_output=True, text=True, check=True
    )
    lines = run.stderr.splitlines()
    assert len(lines) >= 2
    assert set(lines) == {said}


@pytest.mark.parametrize(("calls", "said"), [("pass", "working"), ('progress("reading", 0, 1)', "reading")])
def test_a_terminal_shows_a_stage_that_says_nothing(calls: str, said: str) -> None:
    assert said in on_a_terminal(SILENT.format(calls=calls))


def test_without_rich_a_terminal_has_lines() -> None:
    code = "import sys\nsys.modules['rich.progress'] = None\n" + SILENT.format(calls="pass")
    assert "working: 0 s so far" in on_a_terminal(code)


HEARTBEAT = """
import time
from meshfold.commands import console
console._PATIENCE_S, console._SILENT_S, console._TICK_S = 60.0, 0.1, 0.01
with console.heartbeat("meshfold inspect"):
    {work}
"""


@pytest.mark.parametrize(
    ("work", "beats"),
    [
        ("time.sleep(0.5)", True),
        ("pass", False),
        ("console.print('done'); time.sleep(0.5)", False),
        ("console.table(['a'], [[1]]); time.sleep(0.5)", False),
    ],
)
def test_a_command_is_not_silent_until_it_answers(work: str, beats: bool) -> None:
    run = subprocess.run(
        [sys.executable, "-c", HEARTBEAT.format(work=work)], capture_output=True, text=True, check=True
    )
    assert (run.stderr.count("meshfold inspect: 0 s so far\n") >= 2) is beats


def test_a_progress_speaks_in_place_of_the_heartbeat() -> None:
    work = "progress = console.progress()\n    with progress as told:\n        told('reading', 0, 1); time.sleep(0.5)"
    run = subprocess.run(
        [sys.executable, "-c", HEARTBEAT.format(work=work)], capture_output=True, text=True, check=True
    )
    assert set(run.stderr.splitlines()) == {"reading: 0 s so far"}


def test_short_pieces_of_work_are_not_silent_together() -> None:
    """Neither each Progress nor what lies between takes as long as anybody waits; all of it does."""
    work = """for _ in range(6):
        with console.progress() as told:
            told('reading', 0, 1); time.sleep(0.06); told('reading', 1, 1)
        time.sleep(0.06)"""
    run = subprocess.run(
        [sys.executable, "-c", HEARTBEAT.format(work=work)], capture_output=True, text=True, check=True
    )
    assert len(run.stderr.splitlines()) >= 3


def test_an_error_ends_the_heartbeat() -> None:
    with pytest.raises(ZeroDivisionError), console.heartbeat("meshfold inspect"):
        raise ZeroDivisionError
