"""What the Makefile says while it works, and what it runs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def _patiently(command: str) -> subprocess.CompletedProcess[str]:
    rules = f"include Makefile\ntried:\n\t$(call patiently,trying,{command})\n"
    return subprocess.run(
        ["make", "--no-print-directory", "-f", "-", "tried", "PACE=0.1"],
        input=rules,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_command_that_is_silent_is_said_to_go_on() -> None:
    done = _patiently("sleep 0.7")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "trying\n"
    lines = done.stderr.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("trying: ") and line.endswith(" s so far") for line in lines)


def test_a_command_that_fails_fails_the_rule() -> None:
    done = _patiently("exit 3")
    assert done.returncode == 2
    assert "Error 3" in done.stderr


def test_nothing_is_said_after_the_end() -> None:
    assert _patiently("true").stderr == ""


def test_installers_are_run_patiently() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    installers = [line for line in lines if line.startswith("\t") and "pip install" in line]
    assert len(installers) >= 3
    assert all("$(call patiently," in line and " -q" not in line for line in installers)


def test_every_benchmark_that_is_named_is_there() -> None:
    texts = [ROOT / "Makefile", *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").rglob("*.py")]
    named = {name for text in texts for name in re.findall(r"-m (benchmarks(?:\.\w+)+)", text.read_text())}
    assert len(named) > 20
    for name in named:
        place = ROOT / name.replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").exists(), name
