"""Ramps against planted faults: each must stop at the step at which its fault came, for its reason, and roll back.

A model's fault comes in canary 5, after a clean mirror and canary. A mesh's fault is there from the beginning. Pairs
are made by real servers once a case, and followed by the real ramp, which switches the modes of a running server; hold
times pass on the pairs' clock. Without a fault every ramp must reach serve.

    python -m benchmarks.ramp.ramps            # each fault once, and two ramps without one
    python -m benchmarks.ramp.ramps --all      # faults of the model at every step, and ten without one
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.arguments import arguments
from benchmarks.processes import serving
from benchmarks.ramp.planted import ERRORS, NONE, TABLE, Planted, Pools
from benchmarks.ramp.replayed import Course, Replayed, is_rolled_back
from benchmarks.report import bench
from benchmarks.shadow.fault_requests import requests_of
from benchmarks.shadow.fault_services import Services
from benchmarks.shadow.fault_stores import SURFACE, Contents, Stores, newest
from benchmarks.shadow.faults import generated
from meshfold.commands import console
from meshfold.compat.ramp.status import State
from meshfold.protos.mesh.v1 import orchestrator_pb2

SMALL_STEPS = ("mirror", "canary 1", "canary 5", "canary 50", "serve")
# Steps of a fault of the mesh, which is present at every step.
FEW_STEPS = ("mirror", "canary 5", "serve")
ALL_STEPS = ("mirror", "canary 1", "canary 5", "canary 25", "canary 50", "serve")
# The gate's own bound, which takes some 1,400 users to show, and one for the cases that are not about errors.
ERRORS_PASS, FEW_USERS_ERRORS_PASS = 0.005, 0.01
# At one step: what is not decided then counts as held.
MOST_LOOKS = 40
PLAN = """\
servers = ["{operators}"]
surfaces = ["{surface}"]
pairs = ["pairs"]
store = "store"
steps = {steps}
hold_s = 120
state = "ramp.json"
[gate]
causes_stop = 0.002
causes_share = 0.5
errors_pass = {errors_pass}
accepted_causes = {accepted_causes}
[mesh]
tower = "{tower}"
retrieval = "{retrieval}"
scoring = "{scoring}"
timeout_s = 60
"""


@dataclass(frozen=True)
class Outcome:
    planted: Planted
    course: Course
    seconds: float

    @property
    def is_met(self) -> bool:
        """Whether the ramp did what the table says."""
        course, planted = self.course, self.planted
        if not planted.must_stop:
            return course.state is State.DONE
        named = not planted.causes or bool(planted.causes & set(self.causes))
        return (
            is_rolled_back(course)
            and course.step == course.planted_at
            and bool(planted.reasons & set(course.reasons))
            and named
        )

    @property
    def causes(self) -> list[str]:
        """Causes of differing items in the step's pairs, the most frequent first."""
        return list(self.course.last.causes) if self.course.last is not None else []

    def row(self) -> dict[str, Any]:
        course = self.course
        return {
            "planted": self.planted.name,
            "must": "stop" if self.planted.must_stop else "pass",
            "did": course.state.value,
            "planted_at": course.planted_at,
            "ended_at": course.step,
            "reasons": ", ".join(course.reasons) if course.state is State.FALLEN_BACK else "",
            "causes": ", ".join(self.causes[:3]),
            "pairs_until_stop": course.pairs_until_stop if course.state is State.FALLEN_BACK else 0,
            "exposed_users": len(course.exposed) if course.state is State.FALLEN_BACK else 0,
            "mode": course.server_mode,
            "met": self.is_met,
            "seconds": round(self.seconds, 1),
        }


def main() -> None:
    parser = arguments(__doc__, work="build/ramps")
    parser.add_argument("--stores", type=Path, default=Path("build/faults"), help="where stores are kept")
    parser.add_argument("--requests", type=int, default=1500, help="that are asked in each case")
    parser.add_argument("--results", type=int, default=50, help="that a request asks for")
    parser.add_argument("--all", action="store_true", help="faults of the model at every step")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose names hold it")
    args = parser.parse_args()
    start_s = time.perf_counter()
    for folder in (args.work, args.stores):
        folder.mkdir(parents=True, exist_ok=True)
    logs = args.work / "logs"
    logs.mkdir(exist_ok=True)
    stores = Stores(generated(args.stores / "generated"), args.stores)
    requests = of_as_many_users(stores.data_of(Contents()), args.requests, args.results)
    cases = [planted for planted in TABLE if args.only in planted.name]
    outcomes = []
    with Services(stores, logs) as services, served(stores, args.work) as operators:
        pools = Pools(services, requests)
        clean = pools.clean()
        said(start_s, f"{len(clean)} requests are answered by both sides without a fault")
        for planted, at, seed in runs(cases, args.all, bool(args.only)):
            case_s = time.perf_counter()
            plan = planned(args.work, services, operators, planted, args.all)
            faulty = pools.of(planted)
            hold_store(args.work / "store", stores, planted)
            ramp = Replayed(plan, SURFACE, operators, seed)
            tell_of_case = partial(said, start_s, case=planted.name)
            course = ramp.follow(planted, clean, faulty, at, MOST_LOOKS, tell_of_case)
            outcomes.append(Outcome(planted, course, time.perf_counter() - case_s))
    tell(outcomes, args.work / "ramps.parquet", time.perf_counter() - start_s)


def of_as_many_users(data: Path, count: int, results: int) -> list[bytes]:
    """Requests of different users, at most `count`."""
    by_user: dict[int, bytes] = {}
    for message in requests_of(data, 20 * count, results):
        user_id = orchestrator_pb2.RetrieveRequest.FromString(message).user.user_id
        by_user.setdefault(user_id, message)
    return list(by_user.values())[:count]


def runs(cases: Sequence[Planted], all_steps: bool, only: bool) -> Iterator[tuple[Planted, int, int]]:
    """The case, the step at which its fault comes, and a seed."""
    for seed in range(0 if only and cases else 10 if all_steps else 2):
        yield NONE, 0, seed
    for planted in cases:
        if planted.side == "mesh":
            yield planted, 0, 0
        else:
            for at in range(len(ALL_STEPS)) if all_steps else (2,):
                yield planted, at, at


def planned(work: Path, services: Services, operators: str, planted: Planted, all_steps: bool) -> Path:
    """The plan of a ramp, which may ask the services of the mesh that answered."""
    of_mesh = frozenset((planted.fault,) if planted.side == "mesh" else ())
    facts = services.mesh(of_mesh).facts
    steps = ALL_STEPS if all_steps else FEW_STEPS if of_mesh else SMALL_STEPS
    plan = work / "plan.toml"
    plan.write_text(
        PLAN.format(
            operators=operators,
            surface=SURFACE,
            steps=json.dumps(steps),
            errors_pass=ERRORS_PASS if planted.fault == ERRORS else FEW_USERS_ERRORS_PASS,
            accepted_causes=json.dumps([cause.value for cause in planted.accepted]),
            tower=facts.tower,
            retrieval=facts.retrieval,
            scoring=facts.scoring,
        )
    )
    return plan


def hold_store(store: Path, stores: Stores, planted: Planted) -> None:
    """A store that holds the snapshots of the clean model and of the faulty one."""
    shutil.rmtree(store, ignore_errors=True)
    contents = [Contents()]
    if planted.side == "model" and planted.fault in vars(Contents()):
        contents.append(Contents(**{planted.fault: True}))
    for of in contents:
        snapshot = newest(stores.store_of(of))
        shutil.copytree(snapshot, store / SURFACE / snapshot.name, copy_function=os.link)


@contextmanager
def served(stores: Stores, work: Path) -> Iterator[str]:
    """The operators' address of a server whose modes the ramps switch. Its mesh gets no calls."""
    state = work / "modes.json"
    for path in work.glob("modes.json*"):
        path.unlink()
    flags: list[str | Path] = ["--store", stores.store_of(Contents()), "--mesh", "127.0.0.1:9"]
    flags += ["--migration-state", state, "--comparison-on=true"]
    flags += ["--comparison-noise-share=1", "--comparison-canary-share=1", "--comparison-keep-requests=true"]
    flags += [f"--comparison-folder={work / 'pairs'}"]
    with serving(flags, work / "serve.log") as (_, operators):
        yield operators


def said(start_s: float, text: str, case: str = "") -> None:
    told = f"{case}: {text}" if case else text
    print(f"{time.perf_counter() - start_s:5.0f} s  {told}", flush=True)


def tell(outcomes: Sequence[Outcome], rows: Path, seconds: float) -> None:
    """The table, its rows as a file, and the last line. Ends the program with status 1 where a verdict is not met."""
    told = [outcome.row() for outcome in outcomes]
    pq.write_table(pa.Table.from_pylist(told), rows)
    columns = [name for name in told[0] if name != "seconds"]
    console.table(columns, [[row[name] for name in columns] for row in told])
    planted = [outcome for outcome in outcomes if outcome.planted.must_stop]
    passing = [outcome for outcome in outcomes if outcome.planted.side and not outcome.planted.must_stop]
    clean = [outcome for outcome in outcomes if not outcome.planted.side]
    line = {
        "name": "ramps",
        "planted": len(planted) + len(passing),
        "unstopped": sum(not outcome.is_met for outcome in planted),
        "clean_runs": len(clean),
        "false_alarms": sum(not outcome.is_met for outcome in (*clean, *passing)),
        "exposed_users": sum(row["exposed_users"] for row in told),
        "seconds": round(seconds),
        "rows": str(rows),
    }
    bench(line)
    sys.exit(1 if line["unstopped"] or line["false_alarms"] else 0)


if __name__ == "__main__":
    main()
