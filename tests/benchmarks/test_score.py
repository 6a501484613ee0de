"""That `make bench-score` runs and compares what is equal; never how fast."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def test_a_small_run_tells_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("redis")
    pytest.importorskip("hiredis")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    flags = [
        "--items",
        "3000",
        "--dimension",
        "32",
        "--queries",
        "3",
        "--threads",
        "1",
        "--work",
        str(tmp_path),
    ]
    words = [sys.executable, "-m", "benchmarks.score", *flags]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    word, _, told = done.stdout.splitlines()[-1].partition(" ")
    figures = json.loads(told)
    assert (word, figures.pop("name"), figures.pop("items")) == ("BENCH", "score", 3000)
    # More ids than there are items are left out.
    assert figures.keys() == {"ratio_100", "ratio_1000"}
    assert all(ratio > 0 for ratio in figures.values())


def started(monkeypatch: pytest.MonkeyPatch) -> str:
    """What is told where Redis cannot be started."""
    monkeypatch.syspath_prepend(ROOT)
    redis_process = importlib.import_module("benchmarks.redis_process").redis_process
    with pytest.raises(SystemExit) as caught, redis_process():
        pass
    return str(caught.value)


def test_a_missing_client_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hiredis", ModuleType("hiredis"))
    monkeypatch.setitem(sys.modules, "redis", None)
    assert started(monkeypatch) == "redis is missing: pip install 'meshfold[bench]'"


def test_a_missing_server_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hiredis", "redis"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setenv("PATH", "")
    assert started(monkeypatch).startswith("redis-server is missing: apt-get install redis-server")


def test_a_server_that_does_not_start_is_told_with_what_it_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("redis")
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho no room on this machine\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert started(monkeypatch) == "redis-server did not start: no room on this machine"
