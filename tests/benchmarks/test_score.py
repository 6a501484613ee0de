"""That `make bench-score` runs and compares what is equal; never how fast."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "score.py"


def run(work: Path, environ: Mapping[str, str] = os.environ) -> subprocess.CompletedProcess[str]:
    flags = ["--items", "3000", "--dimension", "32", "--queries", "3", "--threads", "1", "--work", str(work)]
    return subprocess.run(
        [sys.executable, SCRIPT, *flags], capture_output=True, text=True, env=environ, check=False
    )


def test_a_small_run_tells_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("redis")
    pytest.importorskip("hiredis")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    word, _, told = done.stdout.splitlines()[-1].partition(" ")
    figures = json.loads(told)
    assert (word, figures.pop("name"), figures.pop("items")) == ("BENCH", "score", 3000)
    # More ids than there are items are left out.
    assert figures.keys() == {"ratio_100", "ratio_1000"}
    assert all(ratio > 0 for ratio in figures.values())


def test_what_is_missing_is_told_with_its_remedy(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "redis.py").write_text("raise ImportError(name='redis')")
    (hidden / "hiredis.py").write_text("")
    done = run(tmp_path, {**os.environ, "PYTHONPATH": str(hidden)})
    assert done.returncode == 1
    assert done.stderr.endswith("score: redis is missing: pip install 'meshfold[bench]'\n")
    (hidden / "redis.py").write_text("")
    done = run(tmp_path, {**os.environ, "PYTHONPATH": str(hidden), "PATH": str(hidden)})
    assert done.returncode == 1
    assert "score: redis-server is missing: apt-get install redis-server" in done.stderr
