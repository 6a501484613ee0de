"""A mesh that differs from itself beside the model: mirrored requests, compared while callers are served, and reported.

Publishes a generated catalog, starts a mesh with two retrieval replicas whose k-means have other seeds and
`meshfold serve --mesh` in mirror mode in front of it, asks requests of callers at a rate, and has the report written.
Its last line is a JSON object after BENCH; what it says of overlap is computed once more from the Parquet files.

    python -m benchmarks.shadow.demo --work build/shadow
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.arguments import arguments
from benchmarks.mesh.traffic import traffic
from benchmarks.processes import command, serving
from benchmarks.report import bench
from benchmarks.shadow import rows_again
from benchmarks.shadow.two_replicas import PATIENCE_S, two_replicas_up
from meshfold.commands import console
from meshfold.compat.key import KeyedHash, keyed_hash
from meshfold.compat.shadow.difference_files import DIFFERENCES
from meshfold.compat.shadow.pairs import OK, Pair, PairSide
from meshfold.compat.shadow.replay import Replay, ReplaySettings
from meshfold.model.config import IndexConfig
from meshfold.model.publishing import ModelParts, publish_data

# Clusters so few that the budget which a search may score gives a recall of about 0.97 at a hundred results.
INDEX = IndexConfig(clusters=220, target_recall=0.97, recall_depth=100, candidates=1000)
RESULTS = 100
SURFACE = "generated"
# Figures that are computed twice differ by no more.
CLOSE = 1e-9


def main() -> None:
    parser = arguments(__doc__, work="build/shadow", items=100_000)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=25.0, help="requests a second")
    parser.add_argument(
        "--noise", type=float, default=1.0, help="the largest share that the mesh is asked twice"
    )
    args = parser.parse_args()
    data, store, recall = published(args)
    pairs, report = args.work / "pairs", args.work / "report"
    for folder in (pairs, report):
        shutil.rmtree(folder, ignore_errors=True)
    key = args.work / "hash.key"
    if not key.exists():
        command("shadow", "key", "--out", key)
    with (
        two_replicas_up(store, args.work) as mesh,
        served(store, mesh, args, pairs, key) as (address, operators),
    ):
        command("mode", SURFACE, "mirror", "--address", operators, "--why", "demonstration")
        answers = ask(address, data, args)
    compare(pairs, store, args, report)
    rows = rows_again.read(pairs)
    told = figures(report, rows, answers, keyed_hash(str(key)))
    console.print(f"recall of the model {recall}; the report is {report / 'report.html'}")
    bench({"name": "shadow", **told, "rows": str(pairs)})
    sys.exit(0 if told["failed"] == 0 else 1)


def published(args: argparse.Namespace) -> tuple[Path, Path, Mapping[str, float]]:
    """The data, the store and the measured recall of its snapshot; made once for the same arguments."""
    work = args.work
    data = work / f"generated-{args.items}-{args.users}"
    if not data.exists():
        command("data", "generated", "--items", str(args.items), "--users", str(args.users), "--out", data)
    with console.progress() as progress:
        folder = publish_data(data, ModelParts(), work / "store", INDEX, progress)
    recall = json.loads((folder / "manifest.json").read_text())["built"]["recall"]
    return data, work / "store", recall


@contextmanager
def served(
    store: Path, mesh: str, args: argparse.Namespace, pairs: Path, key: Path
) -> Iterator[tuple[str, str]]:
    """The addresses of a server in front of the mesh, for callers and for operators. Pairs are whole when it stops."""
    state = args.work / "modes.json"
    state.unlink(missing_ok=True)
    comparison = {
        "on": "true",
        "folder": pairs,
        "pairs-per-s": 10 * args.rate,
        "noise-share": args.noise,
        # Narrower than it gets, so that the share goes on growing.
        "noise-width": 1e-4,
        "noise-budget": 1_000_000,
        # The causes of differences are looked for afterwards.
        "keep-requests": "true",
        "key-file": key,
    }
    flags: list[str | Path] = [f"--comparison-{name}={value}" for name, value in comparison.items()]
    flags += [f"--queue-s={PATIENCE_S}", f"--migration-shadow-timeout-s={PATIENCE_S}"]
    flags += ["--store", store, "--mesh", mesh, "--migration-state", state]
    with serving(flags, args.work / "serve.log") as addresses:
        yield addresses


def ask(address: str, data: Path, args: argparse.Namespace) -> list[Pair]:
    """Sends the requests at the rate; returns the callers' answers."""
    requests = [
        Pair(request.request_id, request.surface, request=request.SerializeToString())
        for request in traffic(data, args.requests, RESULTS)
    ]
    replay = Replay({PairSide.MESH: address}, ReplaySettings(args.rate, timeout_s=PATIENCE_S))
    answers = []
    with console.progress() as progress:
        for pair in replay.pairs(requests):
            answers.append(pair)
            progress("asking", len(answers), len(requests))
    if replay.late:
        print(f"{replay.late} of {replay.asked} requests started late", file=sys.stderr)
    return answers


def compare(pairs: Path, store: Path, args: argparse.Namespace, report: Path) -> None:
    """Looks for the causes of differences in all pairs, and writes the report."""
    words = ["--store", store, "--out", report, "--attribute", args.requests]
    command("shadow", "compare", pairs, *words)
    print(command("shadow", "report", report, "--html", report / "report.html"))


def figures(
    report: Path, rows: Sequence[Mapping[str, Any]], answers: Sequence[Pair], keyed: KeyedHash
) -> dict[str, Any]:
    """The figures of the last line. Raises SystemExit where report, files and callers disagree."""
    (surface,) = json.loads((report / "comparison.json").read_text())["comparison"]["surfaces"]
    overlaps = next(figure for figure in surface["figures"] if figure["name"] == "overlap@100")
    differences = pq.read_table(report / DIFFERENCES).to_pylist()
    causes = Counter(row["cause"] for row in differences)
    told = {
        "pairs": len(rows),
        "dropped": len(answers) - len(rows),
        "failed": sum(not row["mesh_status"] == row["model_status"] == OK for row in rows)
        + sum(pair.mesh is None or pair.mesh.status != OK for pair in answers),
        "overlap100": overlaps["difference"]["value"],
        "noise100": overlaps["noise"]["value"],
        "differences": len(differences),
        "violations": sum(rate["count"] for rate in surface["rates"] if rate["name"] == "violations"),
        "attributed": 1 - causes["unknown"] / len(differences),
    }
    print(f"causes: {', '.join(f'{cause} {count}' for cause, count in causes.most_common())}")
    got = {keyed.request_id(pair.request_id): pair.mesh.item_ids for pair in answers if pair.mesh}
    again = {
        "overlap100": rows_again.mean_overlap(rows, "mesh", "model"),
        "noise100": rows_again.mean_overlap(rows, "mesh", "again"),
    }
    wrong = [
        f"{name} is {told[name]}, again {value}"
        for name, value in again.items()
        if abs(told[name] - value) > CLOSE
    ]
    if len({row["request_id"] for row in rows}) < len(rows):
        wrong.append("a request has two rows")
    if any(tuple(row["mesh_item_ids"]) != got[row["request_id"]] for row in rows):
        wrong.append("a row is not what its caller got")
    if wrong:
        raise SystemExit("; ".join(wrong))
    return told


if __name__ == "__main__":
    main()
