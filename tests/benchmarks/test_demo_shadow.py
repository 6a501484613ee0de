import importlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meshfold.compat.shadow.compare_settings import MeasureSettings
from meshfold.compat.shadow.pair_measures import measure
from meshfold.compat.shadow.pairs import OK, Pair, SideAnswer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def rows_again(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.shadow.rows_again")


def drawn(draw: random.Random) -> SideAnswer:
    """Up to eight of twelve items, with scores of which many are ties."""
    length = draw.choice((0, 3, 8, 8, 8))
    scores = sorted((draw.choice((0.5, 0.50000001, 0.4, 0.3, 0.2)) for _ in range(length)), reverse=True)
    return SideAnswer(tuple(draw.sample(range(12), length)), tuple(scores))


def test_overlap_is_computed_twice_alike(rows_again: Any) -> None:
    draw = random.Random(0)
    for number in range(3000):
        mesh, model = drawn(draw), drawn(draw)
        pair = Pair(f"{number}", mesh=mesh, model=model, max_results=8)
        measured = measure(pair, MeasureSettings()).difference
        assert measured is not None
        row: dict[str, object] = {"max_results": 8}
        for side, answer in (("mesh", mesh), ("model", model)):
            row |= {f"{side}_item_ids": list(answer.item_ids), f"{side}_scores": list(answer.scores)}
        assert rows_again.overlap(row, "mesh", "model") == pytest.approx(measured["overlap@100"]), pair


def test_means_are_over_users(rows_again: Any) -> None:
    def row(user: str, *item_ids: int, status: str = OK) -> dict[str, object]:
        one = {"user_key": user, "max_results": 2, "mesh_item_ids": [1, 2], "mesh_scores": [0.2, 0.1]}
        of_model = {"model_item_ids": list(item_ids), "model_scores": [0.3, 0.2], "model_status": status}
        return {**one, "mesh_status": OK, **of_model}

    rows = [row("a", 1, 2), row("a", 1, 3), row("b", 3, 4), row("b", status="UNAVAILABLE")]
    assert rows_again.mean_overlap(rows, "mesh", "model") == pytest.approx((0.75 + 0.0) / 2)


@pytest.mark.long
def test_a_mesh_that_differs_from_itself_is_compared_and_reported(tmp_path: Path) -> None:
    sizes = ["--items", "30000", "--users", "40", "--requests", "200", "--rate", "10"]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.shadow.demo", "--work", str(tmp_path), *sizes],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    word, _, last = run.stdout.splitlines()[-1].partition(" ")
    assert word == "BENCH"
    told = json.loads(last)
    assert (told["name"], told["pairs"], told["dropped"], told["failed"]) == ("shadow", 200, 0, 0)
    assert 0.9 < told["overlap100"] < 1
    assert told["violations"] == 0
    assert told["differences"] > 0
    assert told["attributed"] >= 0.99
    assert list(Path(told["rows"]).glob("pairs-*.parquet"))
    assert "<html" in (tmp_path / "report" / "report.html").read_text()
