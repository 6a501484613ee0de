"""The measured rows that are kept beside the code."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MOST_BYTES = 1_000_000


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, writing to a folder of the test."""
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("benchmarks.rows")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


def test_what_is_kept_stays_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "benchmarks" / "results").iterdir()) < MOST_BYTES


def test_a_row_replaces_those_of_its_case_config_and_device(rows: Any) -> None:
    def row(case: str, seconds: float, config: int = 1, device: str = "cpu") -> Any:
        return rows.Row("made", case, {"items": config}, {"seconds": seconds}, device=device)

    rows.write_rows([row("a", 1.0), row("a", 2.0), row("b", 3.0)])
    rows.write_rows([row("a", 4.0), row("a", 5.0, config=2), row("a", 6.0, device="gpu")])
    lines = (rows.RESULTS / "made.jsonl").read_text().splitlines()
    kept = [rows.Row(**json.loads(line)) for line in lines]
    assert [(r.case, r.figures["seconds"]) for r in kept] == [("b", 3.0), ("a", 4.0), ("a", 5.0), ("a", 6.0)]
    assert all(r.at for r in kept)
