"""How often the gate is wrong, and how soon it is right, by simulation, with a look after every 100 pairs.

A wrong promotion is a YES at any look where the true loss of overlap is the margin, for each way in which a loss may be
spread; a wrong rollback is a NO at any look where model and mesh are alike, for overlap, errors or latencies. Power is
the share of migrations at twice the margin with a NO. Everything is computed by the gate's own code.

    python -m benchmarks.gate.errors                    # 1,000 migrations of each case
    python -m benchmarks.gate.errors --migrations 100
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gate.migration import SHAPES, Case, Migration, migration
from benchmarks.report import bench
from meshfold.commands import console
from meshfold.compat.gate.agreement import Agreement
from meshfold.compat.gate.gate import chance_of_no
from meshfold.compat.gate.guards import Errors
from meshfold.compat.gate.latencies import Latencies
from meshfold.compat.gate.settings import GateSettings
from meshfold.compat.gate.verdict import Decision

ROOT = Path(__file__).parents[2]
_OUT = ROOT / "build" / "gate" / "errors.jsonl"
_PAIRS_A_LOOK = 100
_SETTINGS = GateSettings()
_USERS = 2000
# Users of migrations without a fault: enough to show few errors.
_USERS_ALIKE = 3000
_CHUNK = 25

OVERLAP, ERRORS, LATENCY = _SETTINGS.overlap, "errors", "p99"
# Beside those of all pairs asked twice.
_FIFTH = ("every pair", "few users")
_PROMOTIONS = [
    *(Case(f"loss at the margin: {shape}", _USERS, _SETTINGS.margin, shape) for shape in SHAPES),
    *(
        Case(f"loss at the margin: {shape}, a fifth asked twice", _USERS, _SETTINGS.margin, shape, 0.2)
        for shape in _FIFTH
    ),
]
_ROLLBACKS = [
    Case("no loss", _USERS_ALIKE),
    Case("no loss, a fifth asked twice", _USERS_ALIKE, noise_share=0.2),
]
_POWER = [
    Case(f"loss twice the margin: {shape}", _USERS, 2 * _SETTINGS.margin, shape, ends_at_no=True)
    for shape in SHAPES
]
_GUARDS = [
    (ERRORS, Case("+0.5 % errors", _USERS_ALIKE, errors=0.005, ends_at_no=True)),
    (
        ERRORS,
        Case("+0.5 % errors, of the same users", _USERS_ALIKE, errors=0.005, of_users=True, ends_at_no=True),
    ),
    (LATENCY, Case("+20 ms", _USERS, slower_ms=20.0, ends_at_no=True)),
]


@dataclass(frozen=True)
class Outcome:
    """One migration. yes, no: pairs at the first look with that decision; 0 for none. pairs: in total."""

    yes: int
    no: int
    pairs: int


@dataclass(frozen=True)
class Figures:
    """Figures of a case. yes, no: migrations with such a look. median_yes, median_no: their pairs up to that look."""

    name: str
    asked: str
    migrations: int
    yes: int
    no: int
    median_yes: float
    median_no: float
    median_pairs: float


def outcome(case: Case, asked: Sequence[str], seed: int) -> Outcome:
    """asked: which questions; YES needs all of them, NO one."""
    seen = migration(case, seed)
    every: dict[str, Agreement | Errors | Latencies] = {
        OVERLAP: Agreement(_SETTINGS.overlap, _SETTINGS.margin),
        ERRORS: Errors(_SETTINGS.errors_stop, _SETTINGS.errors_pass),
        LATENCY: Latencies(_SETTINGS.p99_ratio, _SETTINGS.p99_stop_ms, _SETTINGS.p99_pass_ms),
    }
    questions = {name: every[name] for name in asked}
    first = {Decision.YES: 0, Decision.NO: 0}
    total = len(seen.users)
    for start in range(0, total, _PAIRS_A_LOOK):
        end = min(total, start + _PAIRS_A_LOOK)
        decisions = set()
        for name, question in questions.items():
            _add(question, seen, slice(start, end))
            no = chance_of_no(_SETTINGS, name)
            decisions.add(question.reason(_SETTINGS.error_rate, no, _SETTINGS.min_users).decision)
        if Decision.NO in decisions:
            first[Decision.NO] = first[Decision.NO] or end
            if case.ends_at_no:
                break
        elif decisions == {Decision.YES}:
            first[Decision.YES] = first[Decision.YES] or end
    return Outcome(first[Decision.YES], first[Decision.NO], total)


def _add(question: Agreement | Errors | Latencies, seen: Migration, some: slice) -> None:
    users = seen.users[some]
    if isinstance(question, Agreement):
        question.add_many(users, seen.difference[some], seen.noise[some])
    elif isinstance(question, Errors):
        question.add_many(users, seen.model_failed[some], seen.mesh_failed[some])
    else:
        question.add_many(users, seen.mesh_ms[some], seen.model_ms[some])


def _outcomes(work: tuple[Case, tuple[str, ...], range]) -> list[Outcome]:
    case, asked, seeds = work
    return [outcome(case, asked, seed) for seed in seeds]


def simulate(cases: Sequence[tuple[Case, tuple[str, ...]]], migrations: int, workers: int) -> list[Figures]:
    """Figures of each case with its questions. workers: processes; 0 for this process alone."""
    work = [
        (case, asked, range(start, min(migrations, start + _CHUNK)))
        for case, asked in cases
        for start in range(0, migrations, _CHUNK)
    ]
    if workers:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            found = list(pool.map(_outcomes, work))
    else:
        found = [_outcomes(one) for one in work]
    by_case: dict[str, list[Outcome]] = {}
    for (case, _, _), outcomes in zip(work, found, strict=True):
        by_case.setdefault(case.name, []).extend(outcomes)
    return [_figures(case, asked, by_case[case.name]) for case, asked in cases]


def _figures(case: Case, asked: Sequence[str], outcomes: Sequence[Outcome]) -> Figures:
    yes = [one.yes for one in outcomes if one.yes]
    no = [one.no for one in outcomes if one.no]
    return Figures(
        name=case.name,
        asked=", ".join(asked),
        migrations=len(outcomes),
        yes=len(yes),
        no=len(no),
        median_yes=float(np.median(yes)) if yes else math.nan,
        median_no=float(np.median(no)) if no else math.nan,
        median_pairs=float(np.median([one.pairs for one in outcomes])),
    )


def all_cases() -> list[tuple[Case, tuple[str, ...]]]:
    return [
        *((case, (OVERLAP,)) for case in _PROMOTIONS),
        *((case, (OVERLAP, ERRORS, LATENCY)) for case in _ROLLBACKS),
        *((case, (OVERLAP,)) for case in _POWER),
        *((case, (asked,)) for asked, case in _GUARDS),
    ]


def bench_line(figures: Sequence[Figures], rows: Path) -> dict[str, Any]:
    """The worst of the cases of a kind; power where users differ; null for what was left out."""
    by_name = {one.name: one for one in figures}

    def of(cases: Sequence[Case]) -> list[Figures]:
        return [by_name[case.name] for case in cases if case.name in by_name]

    power = of([_POWER[SHAPES.index("users differ")]])
    to_yes = [one.median_yes for one in of(_ROLLBACKS[:1]) if not math.isnan(one.median_yes)]
    return {
        "name": "gate_errors",
        "migrations": figures[0].migrations,
        "wrong_promotions": max((one.yes for one in of(_PROMOTIONS)), default=None),
        "wrong_rollbacks": max((one.no for one in of(_ROLLBACKS)), default=None),
        "power": power[0].no / power[0].migrations if power else None,
        "median_pairs_to_yes": round(to_yes[0]) if to_yes else None,
        "rows": str(rows),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The gate's error rates and power, by simulation.")
    parser.add_argument(
        "--migrations", type=int, default=1000, metavar="N", help="of each case (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    parser.add_argument("--out", type=Path, default=_OUT, metavar="FILE", help="rows as JSON lines")
    parser.add_argument(
        "--users", type=int, default=0, metavar="N", help="of a migration, in place of each case's own"
    )
    parser.add_argument("--only", default="", metavar="WORDS", help="cases whose name begins so")
    args = parser.parse_args(argv)
    cases = [(case, asked) for case, asked in all_cases() if case.name.startswith(args.only)]
    if args.migrations < 1 or args.users < 0 or not cases:
        parser.error("at least one migration, no fewer than 0 users and a case that is there are expected")
    start_s = time.monotonic()
    if args.users:
        cases = [(replace(case, users=args.users), asked) for case, asked in cases]
    figures = simulate(cases, args.migrations, args.workers)
    rows = [
        (one.name, one.asked, one.migrations, one.yes, one.no, _count(one.median_yes), _count(one.median_no))
        for one in figures
    ]
    columns = ("case", "asked", "migrations", "yes", "no", "pairs to yes", "pairs to no")
    console.table(columns, rows, f"error rate {_SETTINGS.error_rate:g}, {time.monotonic() - start_s:.0f} s")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("".join(f"{json.dumps(_plain(one))}\n" for one in figures), "utf-8")
    bench(bench_line(figures, args.out))
    return 0


def _plain(figures: Figures) -> dict[str, Any]:
    """NaN as null."""
    told = asdict(figures).items()
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in told}


def _count(pairs: float) -> str:
    return "" if math.isnan(pairs) else f"{pairs:,.0f}"


if __name__ == "__main__":
    raise SystemExit(main())
