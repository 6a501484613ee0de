"""`make overload`, `make hang`, `make soak` and `make mirror` in short: that they run to their last line, no times."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = {
    "overload": ["--quick", "--results", "100"],
    "hang": ["--quick"],
    "soak": ["--minutes", "0.2", "--swaps", "2"],
    "mirror": ["--blocks", "1", "--block", "1", "--state-block", "1", "--requests", "400"],
}
ITEMS = "500"

Running = dict[str, "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Those of the tests that are run, all at once: mostly they wait."""
    names = {item.name for item in request.session.items}
    chosen = {
        name: flags for name, flags in FLAGS.items() if any(n.startswith(f"test_{name}_") for n in names)
    }
    work = tmp_path_factory.mktemp("load")
    own = ["--work", str(work), "--items", ITEMS]
    subprocess.run([sys.executable, "-m", "benchmarks.load.world", *own], cwd=ROOT, check=True)
    programs = {
        name: subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.load.{name}", *own, *flags],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # With the servers that it starts, which end with it.
            start_new_session=True,
        )
        for name, flags in chosen.items()
    }
    yield programs
    for program in programs.values():
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


def figures(running: Running, name: str) -> dict[str, Any]:
    """What its last line tells."""
    out, said = running[name].communicate(timeout=120)
    assert running[name].returncode == 0, said
    word, _, told = out.splitlines()[-1].partition(" ")
    assert word == "BENCH"
    found: dict[str, Any] = json.loads(told)
    assert found["name"] == name
    return found


@pytest.mark.long
def test_overload_tells_what_comes_out(running: Running) -> None:
    told = figures(running, "overload")
    assert set(told) == {"name", "worst_goodput", "late", "reject_p99_ms", "rows"}
    rows = [json.loads(line) for line in Path(told["rows"]).read_text().splitlines()]
    assert [row["case"] for row in rows] == ["3 times, 300 ms", "3 times, 1000 ms"]
    assert max(row["figures"]["goodput_hz"] for row in rows) > 0
    assert all(0 <= row["figures"]["late_share"] <= 1 for row in rows)


def test_hang_tells_who_noticed(running: Running) -> None:
    told = figures(running, "hang")
    assert set(told) == {"name", "attacks", "starved", "operator_late", "peak_extra_mb"}
    assert told["attacks"] == 3


def test_soak_tells_the_slope_and_draws_it(running: Running) -> None:
    told = figures(running, "soak")
    assert told["swaps"] == 2
    assert told["mapped_replaced"] == 0
    assert Path(told["plot"]).stat().st_size > 0
    least, _, most = told["threads"].partition("..")
    assert 0 < int(least) <= int(most)


def test_mirror_tells_a_ratio(running: Running) -> None:
    told = figures(running, "mirror")
    assert told["blocks"] == 1
    assert told["p99_ratio"] > 0
