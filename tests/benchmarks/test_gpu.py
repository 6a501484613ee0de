"""That `make gpu` runs whole, what it judges by, and how it ends; never how fast."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from meshfold.kernels.filter.bundles import unpack

ROOT = Path(__file__).parents[2]
FAST_TESTS = "tests/kernels/gpu/test_first_members.py"
ROW = {"name", "case", "config", "figures", "device", "versions", "commit", "at"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(ROOT)
    names = ("run", "cases", "measure", "kernel_tests", "world")
    return {name: importlib.import_module(f"benchmarks.gpu.{name}") for name in names}


@pytest.fixture
def world(modules: dict[str, ModuleType]) -> Any:
    return modules["world"].World.make(1500, 128, torch.device("cpu"), lambda *_: None)


@pytest.mark.long
def test_a_dry_run_measures_every_row(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    small = ("--device", "cpu", "--items", "1200", "--seconds", "0", "--batches", "1")
    done = run(*small, "--tests", FAST_TESTS, "--json", str(file))
    assert done.returncode == 0, done.stderr
    word, _, told = done.stdout.splitlines()[-1].partition(" ")
    figures = json.loads(told)
    assert word == "BENCH"
    assert (figures["name"], figures["skipped"], figures["wrong"]) == ("gpu", 0, 0)
    assert figures["tests"] > 0
    kept = json.loads(file.read_text())
    assert figures["rows"] == len(kept["rows"]) >= 12
    for row in kept["rows"]:
        assert set(row) == ROW
        assert row["figures"]["recall"] > 0.9
        assert row["figures"]["p99_ms"] >= row["figures"]["p50_ms"] > 0
        assert row["figures"]["needed_bytes"] > row["figures"]["search_needed_bytes"] > 0
        assert row["figures"]["brute_force_p50_ms"] > 0
        assert f"| {row['case']} |" in done.stdout
    assert kept["rows"][0]["figures"]["different_from_cpu"] == 0


@pytest.mark.long
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "needs a CUDA device" in line
    assert not done.stdout


def test_the_filter_of_the_rows_is_what_the_columns_say(modules: dict[str, ModuleType], world: Any) -> None:
    measure = modules["measure"]
    case = modules["cases"].Case(0, 16, filtered=True)
    prepared = measure.prepare(world, case, torch.nn.Identity())
    batch = prepared.batches[1]
    eligible = world.filter(batch.filters, torch.ones(16, dtype=torch.bool))
    for i in range(16):
        assert torch.equal(unpack(eligible.bits[i], world.items), world.passes(16 + i))
    assert 0 < int(eligible.counts.min()) < int(eligible.counts.max()) < world.items / 3


def test_what_does_not_pass_and_what_is_missed_is_counted(
    modules: dict[str, ModuleType], world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = modules["measure"]
    case = modules["cases"].Case(0, 2, probes=10**6, k=1500, filtered=True)
    prepared = measure.prepare(world, case, torch.nn.Identity())
    judged = measure.judge(prepared)
    assert (judged.recall, judged.ineligible) == (1.0, 0)
    unfiltered = replace(
        prepared, batches=measure.prepare(world, replace(case, filtered=False), None).batches
    )
    wrong = measure.judge(unfiltered)
    assert wrong.ineligible == sum(world.items - int(world.passes(i).sum()) for i in range(2))
    none = replace(prepared.batches[0], candidates=torch.zeros(2, dtype=torch.int64))
    assert measure.judge(replace(prepared, batches=[none])).recall == 0.0


def test_answers_that_differ_from_the_cpus_are_named(modules: dict[str, ModuleType], world: Any) -> None:
    measure = modules["measure"]
    prepared = measure.prepare(world, modules["cases"].Case(0, 3), torch.nn.Identity())
    host = modules["world"].on_host(world)
    other = measure.on_host(prepared, host, torch.nn.Identity())
    assert measure.differences(prepared, other, 3) == []
    other.model.index.codes = torch.zeros_like(other.model.index.codes)
    assert any("positions" in text for text in measure.differences(prepared, other, 3))


def test_the_clock_skips_what_no_longer_fits(
    modules: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    clock = modules["run"].Clock(1.0)
    assert clock.fits("a row", 5.0)
    assert not clock.fits("80 M", 61.0)
    assert clock.skipped[0].startswith("80 M: needs some 61 s, ")
    assert "skipped 80 M" in capsys.readouterr().err


def test_long_files_are_split_into_processes(modules: dict[str, ModuleType]) -> None:
    module = modules["kernel_tests"]
    made = module.groups([module.FOLDER])
    for name, words in module._PARTS.items():
        text = (ROOT / module.FOLDER / name).read_text()
        assert all(word in text for word in words)
        assert sum(Path(group[0]).name == name for group in made) == len(words) + 1


@pytest.mark.long
def test_failed_tests_are_shown_and_slow_ones_ended(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    bad, slow = tmp_path / "test_bad.py", tmp_path / "test_slow.py"
    bad.write_text("def test_a(): assert 1 == 2\n\ndef test_b(): pass\n")
    slow.write_text("import time\n\ndef test_c(): time.sleep(600)\n")
    run_tests = modules["kernel_tests"].run_tests
    tested = run_tests([str(bad)], 300.0, 2, interpreted=True)
    assert (tested.passed, tested.failed, tested.unfinished) == (1, 1, ())
    assert "assert 1 == 2" in tested.failures[0]
    ended = run_tests([str(slow)], 0.2, 1, interpreted=True)
    assert (ended.passed, ended.failed, ended.unfinished) == (0, 0, ("test_slow.py",))
