"""Causes of differences against faults that were planted: a confusion matrix.

A catalog is generated, and the model is served beside a mesh of real services. Faults are planted on either side, alone
and in pairs: in stores that are built from changed data, other weights or another setting, and by proxies that rewrite
messages. A fault's differences are those that the sides do not have without it. A fault is missed where fewer than 95 %
of them carry its cause. With nothing planted, the only causes are ties, precision and misses of the indices, the last
within each side's measured recall.

    python -m benchmarks.shadow.faults            # each fault alone, and some pairs
    python -m benchmarks.shadow.faults --all      # all pairs
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.arguments import arguments
from benchmarks.processes import command
from benchmarks.report import bench
from benchmarks.shadow.fault_requests import requests_of
from benchmarks.shadow.fault_services import FAULTS, Services, model_store
from benchmarks.shadow.fault_stores import Contents, Stores, newest
from meshfold.commands import console
from meshfold.compat.shadow.answers import answer_of
from meshfold.compat.shadow.attribution import Attribution
from meshfold.compat.shadow.comparison import Cause, Difference
from meshfold.compat.shadow.pairs import Pair
from meshfold.model.snapshot import Snapshot
from meshfold.protos.mesh.v1 import orchestrator_pb2

ITEMS, DIMENSION, USERS = 20_600, 64, 2000
CARRIED = 0.95
NOISE = frozenset({Cause.TIE, Cause.PRECISION, Cause.MESH_ANN_MISS, Cause.MODEL_ANN_MISS})
_MISSES = frozenset({Cause.MESH_ANN_MISS, Cause.MODEL_ANN_MISS})
# Faults that come with an index of their own.
_OF_OTHER_DATA = ("missing", "stale")
_CATALOGS = frozenset({Cause.MESH_CATALOG, Cause.MODEL_CATALOG})
# Causes by fault and side.
EXPECTED: dict[tuple[str, str], frozenset[Cause]] = {
    ("mesh", "missing"): frozenset({Cause.MESH_CATALOG}),
    ("model", "missing"): frozenset({Cause.MODEL_CATALOG}),
    ("mesh", "not_ignored"): frozenset({Cause.MESH_FILTER}),
    ("model", "not_ignored"): frozenset({Cause.MODEL_FILTER}),
    ("mesh", "fifth"): frozenset({Cause.MESH_ANN_MISS}),
    ("model", "fifth"): frozenset({Cause.MODEL_ANN_MISS}),
    **{(side, "stale"): _CATALOGS for side in ("mesh", "model")},
    **{(side, "shuffled"): frozenset({Cause.MERGE}) for side in ("mesh", "model")},
    **{(side, "tower"): frozenset({Cause.USER_VECTOR}) for side in ("mesh", "model")},
    **{(side, "head"): frozenset({Cause.SCORES}) for side in ("mesh", "model")},
    **{(side, "float16"): frozenset({Cause.PRECISION}) for side in ("mesh", "model")},
}

Fault = tuple[str, str]
Case = tuple[Fault, ...]
# A difference, whatever its cause: request, item, the side that lacks it.
Key = tuple[str, int | str, str]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a case. found: the cause of every difference."""

    case: Case
    found: dict[Key, Difference]
    seconds: float

    @property
    def name(self) -> str:
        return name_of(self.case)


def main() -> None:
    parser = arguments(__doc__, work="build/faults")
    parser.add_argument("--requests", type=int, default=100, help="of each case")
    parser.add_argument("--results", type=int, default=100, help="that a request asks for")
    parser.add_argument("--all", action="store_true", help="all pairs of faults")
    parser.add_argument(
        "--only", default="", metavar="CASE", help="such as mesh.tower, or mesh.tower+model.head"
    )
    args = parser.parse_args()
    start_s = time.perf_counter()
    args.work.mkdir(parents=True, exist_ok=True)
    stores = Stores(generated(args.work / "generated"), args.work)
    requests = requests_of(stores.data_of(Contents()), args.requests, args.results)
    planned = only(args.only) if args.only else cases(args.all)
    logs = args.work / "logs"
    logs.mkdir(exist_ok=True)
    with Services(stores, logs) as services:
        clean = measured((), services, stores, requests)
        outcomes = [measured(case, services, stores, requests) for case in planned]
    alone = {outcome.case[0]: outcome for outcome in outcomes if len(outcome.case) == 1}
    rows = args.work / "differences.parquet"
    write_rows(rows, [clean, *outcomes])
    show_matrix([clean, *outcomes])
    missed = [line for outcome in outcomes for line in missed_by(outcome, clean, alone)]
    false = clean_false(clean, stores, args.requests * args.results)
    for line in missed:
        print(line)
    told = {
        "name": "faults",
        "planted": sum(len(outcome.case) for outcome in outcomes),
        "missed": len(missed),
        "clean_false": false,
        "rows": str(rows),
    }
    print(f"{time.perf_counter() - start_s:.0f} s")
    bench(told)
    sys.exit(0 if not missed and not false else 1)


def generated(folder: Path) -> Path:
    if not folder.exists():
        words = [f"--items={ITEMS}", f"--dimension={DIMENSION}", f"--users={USERS}", f"--out={folder}"]
        command("data", "generated", *words)
    return folder


def cases(all_pairs: bool) -> list[Case]:
    """Each fault alone, then pairs: all of them, or each fault beside one of the other side and one of its own."""
    faults: list[Fault] = [(side, name) for side in ("mesh", "model") for name in FAULTS]
    singles: list[Case] = [(fault,) for fault in faults]
    if all_pairs:
        return singles + list(itertools.combinations(faults, 2))
    across: list[Case] = [
        (("mesh", name), ("model", FAULTS[(place + 3) % len(FAULTS)])) for place, name in enumerate(FAULTS)
    ]
    return singles + across


def only(named: str) -> list[Case]:
    """A case by its name; a pair comes after each of its faults alone, which separate its differences."""
    case = tuple(fault_of(name) for name in named.split("+"))
    return [(fault,) for fault in case] + ([case] if len(case) > 1 else [])


def fault_of(name: str) -> Fault:
    side, _, fault = name.partition(".")
    if (side, fault) not in EXPECTED:
        raise SystemExit(f"{name!r} is no fault; expected SIDE.FAULT of {', '.join(map('.'.join, EXPECTED))}")
    return side, fault


def name_of(case: Case) -> str:
    return "+".join(".".join(fault) for fault in case) or "clean"


def measured(case: Case, services: Services, stores: Stores, requests: Sequence[bytes]) -> Outcome:
    """Asks both sides everything and attributes the differences."""
    start_s = time.perf_counter()
    of_mesh = frozenset(name for side, name in case if side == "mesh")
    of_model = frozenset(name for side, name in case if side == "model")
    mesh, model = services.mesh(of_mesh), services.model(of_model)
    pairs = [
        Pair(request_id, mesh=answer_of(mesh.ask(r)), model=answer_of(model(r)), request=r)
        for request_id, r in (
            (orchestrator_pb2.RetrieveRequest.FromString(r).request_id, r) for r in requests
        )
    ]
    attribution = Attribution(Snapshot.open(newest(stores.store_of(model_store(of_model)))), mesh.facts)
    found = attribution.differences_of(pairs)
    attribution.close()
    for why, count in attribution.counted.items():
        print(f"{name_of(case)}: {count} pairs without causes: {why}", file=sys.stderr)
    by_key = {
        (p.request_id, d.item_id, d.missing_from): d for p, ds in zip(pairs, found, strict=True) for d in ds
    }
    outcome = Outcome(case, by_key, time.perf_counter() - start_s)
    causes = Counter(d.cause.value for d in by_key.values())
    print(
        f"{outcome.name}: {len(by_key)} differences in {outcome.seconds:.1f} s: {dict(causes.most_common())}",
        flush=True,
    )
    return outcome


def missed_by(outcome: Outcome, clean: Outcome, alone: dict[Fault, Outcome]) -> Iterable[str]:
    """A line for each fault of a case of which too few differences carry its cause, or that makes none.

    Of a pair, a fault's differences are those that it makes alone and the other does not. An index of other data misses
    other items than the clean one: in such a case as many misses as there are differences without a fault do not count.
    """
    for fault in outcome.case:
        own = outcome.found.keys() - clean.found.keys()
        if len(outcome.case) > 1:
            others = [alone[f].found.keys() for f in outcome.case if f != fault and f in alone]
            if fault in alone:
                own &= alone[fault].found.keys()
            own -= set().union(*others)
        right = sum(outcome.found[key].cause in EXPECTED[fault] for key in own)
        count = len(own)
        if any(name in _OF_OTHER_DATA for _, name in outcome.case):
            misses = sum(outcome.found[key].cause in _MISSES - EXPECTED[fault] for key in own)
            count -= min(misses, len(clean.found))
        if not own or right < CARRIED * count:
            share = right / count if count else 0.0
            yield f"missed: {'.'.join(fault)} in {outcome.name}: {right} of {count} differences ({share:.1%})"


def clean_false(clean: Outcome, stores: Stores, results: int) -> int:
    """Differences without a fault that are said to have one, and misses of an index beyond its measured recall."""
    false = sum(d.cause not in NOISE for d in clean.found.values())
    recall = Snapshot.open(newest(stores.store_of(Contents()))).built["recall"]
    allowed = (1 - min(recall["item_like_recall"], recall["user_like_recall"])) * results
    for side, cause in (("mesh", Cause.MESH_ANN_MISS), ("model", Cause.MODEL_ANN_MISS)):
        misses = sum(d.cause is cause and d.missing_from == side for d in clean.found.values())
        print(
            f"clean: the {side}'s index missed {misses} of {results} items; by its recall {allowed:.0f} at most"
        )
        false += max(0, misses - int(allowed))
    return false


def show_matrix(outcomes: Sequence[Outcome]) -> None:
    """Differences beyond those of the clean case, by cause."""
    clean = outcomes[0].found.keys()
    lines = []
    for outcome in outcomes:
        own = outcome.found.keys() - (clean if outcome.case else set())
        causes = Counter(outcome.found[key].cause for key in own)
        lines.append([outcome.name, len(own), *(causes[cause] or "" for cause in Cause)])
    used = [i for i in range(len(Cause)) if any(line[2 + i] for line in lines)]
    header = ["planted", "differences", *(list(Cause)[i].value for i in used)]
    console.table(header, [[*line[:2], *(line[2 + i] for i in used)] for line in lines])


def write_rows(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Every difference, its cause, and whether it is there without faults."""
    clean = outcomes[0].found.keys()
    rows: list[dict[str, Any]] = [
        {
            "planted": outcome.name,
            "request_id": key[0],
            "item_id": key[1],
            "missing_from": key[2],
            "rank": difference.rank,
            "cause": difference.cause.value,
            "without_fault": key in clean,
        }
        for outcome in outcomes
        for key, difference in outcome.found.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


if __name__ == "__main__":
    main()
