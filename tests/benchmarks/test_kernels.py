"""That everything of `make bench-kernels` runs, and how it counts; never how fast."""

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
TOLD = {
    *("name", "scan_vs_faiss", "filtered10_vs_faiss", "filtered01_vs_best", "scan_vs_fastscan"),
    *("batch16_gain", "bloom_1m_ms", "share_of_bandwidth", "recall_selective"),
}


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.kernels.points")


@pytest.mark.long
def test_a_quick_run_tells_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("pyroaring")
    # A process of its own settings: compare.py sets what it needs.
    inherited = {n: v for n, v in os.environ.items() if n not in ("OMP_WAIT_POLICY", "GLIBC_TUNABLES")}
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.kernels.compare", "--quick", "--folder", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=inherited,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    word, _, told = run.stdout.splitlines()[-1].partition(" ")
    figures = json.loads(told)
    assert (word, set(figures), figures["name"]) == ("BENCH", TOLD, "kernels")
    assert all(math.isfinite(figures[name]) and figures[name] > 0 for name in TOLD - {"name"})
    assert 0.99 <= figures["recall_selective"] <= 1.0
    # A second run finds the data and the peers' indices of the first.
    assert (tmp_path / "20000x128" / "SQ8.faiss").exists()


def test_a_run_goes_on_where_the_last_one_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    rows = importlib.import_module("benchmarks.rows")
    path, asked = tmp_path / "unfinished.json", []

    def measured(name: str) -> list[Any]:
        asked.append(name)
        return [rows.Row("kernels", name, {"k": 1}, {"p50_ms": 0.5})]

    config = {"items": 5}
    first = rows.Unfinished(path, config).rows("a", lambda: measured("a"))
    second = rows.Unfinished(path, config)
    assert second.rows("a", lambda: measured("a")) == first
    assert second.rows("b", lambda: measured("b"))[0].case == "b"
    # Another config is another run.
    rows.Unfinished(path, {"items": 6}).rows("a", lambda: measured("a"))
    assert asked == ["a", "b", "a"]
    second.remove()
    assert not path.exists()


def test_recall_counts_eligible_results_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("pyroaring")
    monkeypatch.syspath_prepend(ROOT)
    data = importlib.import_module("benchmarks.kernels.data")
    peers = importlib.import_module("benchmarks.kernels.peers")
    made = data.Data.load(tmp_path, 3000, 16, 2)
    threads = peers.Threads()
    roaring = peers.Roaring(made, peers.Postings(made), threads)
    for kind in data.KINDS:
        answers, queries = made.answers(kind), made.queries[kind]
        for filter_ in data.FILTERS:
            for i, query in enumerate(queries):
                terms = made.terms(kind, filter_, i)
                asked = roaring.prepare(query[None], [terms], 100, None)
                (found,) = roaring.answer(asked)
                wanted = min(100, int(made.passes(terms, np.arange(3000)).sum()))
                assert answers.recall(filter_, 100, i, found) == 1.0
                if wanted:
                    half = np.repeat(found[: wanted // 2], 2)
                    assert answers.recall(filter_, 100, i, half) == (wanted // 2) / wanted
                worst = np.argsort(made.vectors @ query)[: 3000 - 100]
                if not terms:
                    assert answers.recall(filter_, 100, i, worst) == 0.0
                failing = np.flatnonzero(~made.passes(terms, np.arange(3000)))
                assert answers.recall(filter_, 100, i, failing) == (0.0 if wanted else 1.0)


def test_the_frontier_holds_what_nothing_beats(points: ModuleType) -> None:
    made = [
        points.Point("a", name, recall, ms, ms)
        for name, recall, ms in (
            ("slow", 0.9, 3.0),
            ("quick", 0.9, 2.0),
            ("poor", 0.8, 2.5),
            ("least", 0.5, 1.0),
            ("best", 1.0, 8.0),
        )
    ]
    assert [p.setting for p in points.frontier(made)] == ["least", "quick", "best"]
    assert points.ms_at(made, 0.4) == 1.0
    assert points.ms_at(made, 0.9) == 2.0
    assert points.ms_at(made, 0.95) == pytest.approx(4.0)  # half way from 2 to 8 on a logarithmic axis
    assert points.ms_at(made, 1.0) == pytest.approx(8.0)
    assert points.ms_at(made[:4], 0.95) == math.inf
    assert points.best_of(made, "a").setting == "best"
    assert points.best_of(made[:4], "a").setting == "quick"


def test_rows_hold_every_point(points: ModuleType) -> None:
    rows = importlib.import_module("benchmarks.rows")
    made = [points.Point("a, b", "8 lists", 0.5, 1.5, 2.0), points.Point("c", "", 1.0, 3.0, 4.0)]
    row = rows.Row("kernels", "case", {}, points.figures_of(made))
    assert points.points_of(row) == made


def test_plots_have_a_panel_for_each_case(
    points: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    rows = importlib.import_module("benchmarks.rows")
    plots = importlib.import_module("benchmarks.kernels.plots")
    curve = {
        **{"part": "curve", "k": 1000, "batch": 1, "threads": 1, "items": 5, "dimension": 2},
        **{"queries": "user-like", "filter": "10 % near"},
    }
    made = [points.Point(s, str(r), r, r * 2, r * 3) for s in plots.STYLES for r in (0.5, 0.99, 1.0)]
    row = rows.Row("kernels", "case", curve, points.figures_of(made))
    case = ("user-like", "10 % near")
    for name in ("a.svg", "b.svg"):
        plots.draw([row], [[case, case], [case, case]], tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text.count("user-like queries, 10 % pass, near") == 4
    assert all(system in text for system in plots.STYLES)
    assert (tmp_path / "b.svg").read_text() == text
