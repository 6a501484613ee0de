from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def simulated(only: str, out: Path) -> Any:
    """100 migrations of 300 users, each looked at after every 100 pairs."""
    words = ("--migrations", "100", "--users", "300", "--workers", "0", "--only", only, "--out", str(out))
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.gate.errors", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    word, _, told = run.stdout.splitlines()[-1].partition(" ")
    assert word == "BENCH"
    return json.loads(told)


def test_the_gate_is_seldom_wrong(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    line = simulated("loss at the margin: few users", rows)
    # One in a hundred is allowed; five or more have a chance of 0.4 %.
    assert line["wrong_promotions"] <= 4
    assert line["wrong_rollbacks"] is None
    told = [json.loads(row) for row in rows.read_text().splitlines()]
    assert [row["migrations"] for row in told] == [100, 100]
    assert simulated("no loss, a fifth", rows)["wrong_rollbacks"] <= 4
