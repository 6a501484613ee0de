from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gate.errors import OVERLAP, all_cases, bench_line, main, simulate
from benchmarks.gate.migration import SHAPES, Case, migration

MIGRATIONS = 100
# Fewer than in `make gate-errors`, and looked at as often.
USERS = 500


def test_the_gate_is_seldom_wrong() -> None:
    cases = [Case(shape, USERS, 0.02, shape) for shape in ("users differ", "few users")]
    alike = Case("alike", USERS)
    figures = simulate([(case, (OVERLAP,)) for case in (*cases, alike)], MIGRATIONS, workers=0)
    # One in a hundred is allowed; five or more have a chance of 0.4 %.
    assert max(one.yes for one in figures[:2]) <= 4
    assert figures[2].no <= 4


def test_a_loss_is_what_the_case_says() -> None:
    for shape in SHAPES:
        lost = []
        for seed in range(20):
            seen = migration(Case(shape, 2000, 0.1, shape), seed)
            excess = np.bincount(seen.users, seen.noise - seen.difference) / np.bincount(seen.users)
            lost.append(excess.mean())
        assert np.mean(lost) == pytest.approx(0.1, abs=4 * np.std(lost) / 20**0.5)


def test_a_run_ends_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fewer = [(replace(case, users=60), asked) for case, asked in all_cases()]
    figures = simulate(fewer, 1, workers=0)
    line = bench_line(figures, tmp_path)
    assert line["wrong_promotions"] == line["wrong_rollbacks"] == 0
    assert len(figures) == len({one.name for one in figures}) == len(fewer)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--migrations" in capsys.readouterr().out
    assert json.loads(json.dumps(line)) == line
