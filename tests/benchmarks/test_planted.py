import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_an_over_arch_recovers_what_no_dot_product_can_express() -> None:
    arguments = ["--items", "10000", "--users", "600", "--steps", "400", "--threads", "1"]
    words = [sys.executable, "-m", "benchmarks.planted", *arguments]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    word, _, told = run.stdout.splitlines()[-1].partition(" ")
    row = json.loads(told)
    assert (word, row["name"], row["items"]) == ("BENCH", "planted", 10_000)
    # Half of the nearest items are right.
    assert 0.4 < row["recall_without"] < 0.6
    assert row["ratio"] >= 1.3
    assert row["recall_with"] <= 1.0
