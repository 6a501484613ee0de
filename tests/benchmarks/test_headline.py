"""What the headline is made of: its filters, what processes are measured by, and its figures."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from meshfold.model.filter.expression import All, Expression, Match, Not, Range

ROOT = Path(__file__).parents[2]
BUSY = (
    "import time, subprocess, sys\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"
)


@pytest.fixture
def catalog(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported("catalog", monkeypatch)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported("process_tree", monkeypatch, "benchmarks")


@pytest.fixture
def recalls(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported("recall", monkeypatch)


def imported(name: str, monkeypatch: pytest.MonkeyPatch, package: str = "benchmarks.headline") -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module(f"{package}.{name}")


def fields_of(expression: Expression) -> set[str]:
    if isinstance(expression, All):
        return set().union(*map(fields_of, expression.filters))
    if isinstance(expression, Not):
        return fields_of(expression.filter)
    assert isinstance(expression, Match | Range)
    return {expression.field}


def test_filters_read_all_six_fields_with_seven_conditions_on_average(catalog: ModuleType) -> None:
    random = np.random.default_rng(0)
    made = [catalog.filter_of(random) for _ in range(600)]
    names = set(catalog.catalog_of(1000, 8).columns)
    assert len(names) == 6
    assert all(fields_of(expression) == names for expression, _ in made)
    assert all(isinstance(e, All) and len(e.filters) == conditions for e, conditions in made)
    assert np.mean([conditions for _, conditions in made]) == pytest.approx(7.0, abs=0.15)


def test_processor_time_is_that_of_children_too_and_of_those_that_ended(processes: ModuleType) -> None:
    child = f"subprocess.run([sys.executable, '-c', {BUSY!r}])\n" * 2
    with subprocess.Popen(
        [sys.executable, "-c", f"{BUSY}{child}\nprint(flush=True)\nsys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        tree, spent = processes.ProcessTree(process.pid), processes.Spent()
        with tree.watched(spent):
            process.stdout.readline()
        assert spent.cpu_s >= 0.55
        assert spent.machine_s >= spent.cpu_s - 0.05
        assert tree.peak_mb() >= tree.proportional_mb() > 1
        process.stdin.close()


def test_a_server_that_is_stopped_takes_nothing(processes: ModuleType) -> None:
    spin = "print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        tree = processes.ProcessTree(process.pid)
        tree.stop()
        before_s = tree.cpu_s()
        time.sleep(0.2)
        assert tree.cpu_s() - before_s <= 0.02
        tree.go_on()
        process.kill()


def test_recall_counts_results_as_good_as_the_exact_answers_last(recalls: ModuleType) -> None:
    recall = recalls.recall
    exact = ([1, 2, 3, 4], [0.9, 0.8, 0.7, 0.6])
    assert recall(exact, exact) == 1.0
    assert recall(([1, 2, 3, 9], [0.9, 0.8, 0.7, 0.6]), exact) == 1.0
    assert recall(([1, 2, 3, 9], [0.9, 0.8, 0.7, 0.5]), exact) == 0.75
    assert recall(([1, 2], [0.9, 0.8]), exact) == 0.5
    assert recall(([], []), ([], [])) == 1.0


@pytest.mark.long
def test_a_small_headline_runs_from_end_to_end(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks.headline.run", "--small", "--work", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith('BENCH {"name": "headline", "rate_model": ')
