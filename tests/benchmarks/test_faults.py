import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_a_planted_fault_is_named_and_nothing_is_where_none_is(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    arguments = ["--requests", "16", "--only", "mesh.shuffled", "--work", str(tmp_path)]
    words = [sys.executable, "-m", "benchmarks.shadow.faults", *arguments]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    word, _, told = run.stdout.splitlines()[-1].partition(" ")
    row = json.loads(told)
    assert word == "BENCH"
    assert row == {"name": "faults", "planted": 1, "missed": 0, "clean_false": 0, "rows": row["rows"]}
    rows = pq.read_table(row["rows"]).to_pylist()
    causes = Counter(r["cause"] for r in rows if r["planted"] == "mesh.shuffled" and not r["without_fault"])
    assert causes["merge"] >= 0.95 * causes.total() > 100
