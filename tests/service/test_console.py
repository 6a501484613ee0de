from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from meshfold.service import console

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
        "from meshfold.service import console\n"
        f"console.table(['item', 'title', 'value'], {ROWS + [[1, 'long ' * 40, 1.0]]!r}, 'found')"
    )
    assert "Heat [1995]" in shown
    assert "\x1b[31m" not in shown
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines())) <= 80


WORK = """
import time
from meshfold.service import console
console._PATIENCE_S = {patience_s}
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
