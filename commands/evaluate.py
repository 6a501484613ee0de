"""`meshfold evaluate`: measures quality and latency of a snapshot's answers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.commands import console
from meshfold.commands.train import SHOWN_AT, cells_of
from meshfold.model.errors import InvalidConfig, InvalidData, SnapshotRefused
from meshfold.service.extras import need
from meshfold.tools.doubts import of_inputs, of_tasks, of_ties, tell

if TYPE_CHECKING:
    from meshfold.model.snapshot import Snapshot
    from meshfold.tools.evaluation import Measured

DEFAULT_CANDIDATES = (256, 1024, 4096)
DEFAULT_USERS = 1000
ROWS, PLOT = "rows.jsonl", "quality.png"
_EPILOG = """\
examples:
  meshfold evaluate .meshfold/store ml-latest-small
  meshfold evaluate .meshfold/store ml-latest-small --out evaluation --candidates 256,1024,4096
  meshfold evaluate .meshfold/store shop/schema.toml --users 200 --json

The latest 20 % of each user's interactions are held out, what came before is the history of the query, and the
answer is the snapshot's, end to end: through the index and by exact search (every item scored), by OverArch and by
similarity, for each number of candidates. Results of a task are in the order of its own score, as a request gets them
that weighs this task alone; the default order may be another (docs/models.md). An input that the schema declares is
read from the column of its name in the interactions: a query brings what the first held-out interaction has there.
Latencies are of one query at a time, all ways in turn.

--out writes rows.jsonl and quality.png, a plot of quality against latency that needs matplotlib:
pip install 'meshfold[plot]'. --json alone needs nothing more.
"""


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a snapshot: recall, NDCG and latency on held-out interactions",
        description="Measure a published snapshot on held-out interactions, end to end.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("snapshot", type=Path, metavar="SNAPSHOT", help="a snapshot's folder or a store")
    parser.add_argument("data", type=Path, metavar="DATA", help="the data it was built from")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write rows and plot")
    parser.add_argument(
        "--users",
        type=int,
        default=DEFAULT_USERS,
        metavar="N",
        help="at most, evenly among all (default: %(default)s)",
    )
    parser.add_argument(
        "--candidates",
        type=_counts,
        default=DEFAULT_CANDIDATES,
        metavar="N,N,...",
        help=f"kept for ranking (default: {','.join(map(str, DEFAULT_CANDIDATES))})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, a line a row")
    parser.set_defaults(run=evaluate_snapshot)


def evaluate_snapshot(args: argparse.Namespace) -> int:
    if args.out is not None:
        if args.out.exists() and not args.out.is_dir():
            raise InvalidConfig(f"{args.out}: is there and no folder; name another --out")
        need("plot", "the plot of --out")
    # Imported here, so that a command line is parsed without importing torch.
    from meshfold.model.data.source import open_source
    from meshfold.tools.evaluation import HELD_OUT_SHARE, evaluate

    with console.progress() as progress:
        progress("reading", 0, 1)
        source = open_source(args.data)
        snapshot = _snapshot(args.snapshot, source.schema.surface)
        interactions = source.interactions()
        if interactions is None:
            raise InvalidData(f"{args.data}: has no interactions to evaluate on; add [interactions]")
        features = source.features()
        progress("reading", 1, 1)
        measured = evaluate(snapshot, interactions, args.candidates, args.users, progress, features)
    _tell_what_was_learned(snapshot.built)
    counts = {task: int(of_task.sum()) for task, of_task in interactions.tasks.items()}
    tell(
        [
            *of_ties(interactions.tied_cuts(HELD_OUT_SHARE)),
            *of_tasks(
                {row.task: row.users for row in measured},
                counts,
                {row.task: row.already_met for row in measured},
            ),
            *of_inputs(features.missing if features else ()),
        ]
    )
    rows = [row.to_json() for row in measured]
    if args.json:
        for row in rows:
            console.print(json.dumps(row))
    else:
        show(measured)
    if args.out is not None:
        _write(args.out, snapshot, rows)
    return 0


def show(measured: Sequence[Measured]) -> None:
    """Prints a table for each task: one row per way to answer, with recall, NDCG and latency."""
    columns = ["search", "ranking", "candidates"]
    columns += [f"{part}@{k}" for part in ("recall", "ndcg") for k in SHOWN_AT] + ["p50 ms", "p95 ms"]
    for task in dict.fromkeys(row.task for row in measured):
        of_task = [row for row in measured if row.task == task]
        lines = [
            [
                row.variant.search,
                row.variant.ranking,
                row.variant.candidates,
                *cells_of(row.quality),
                *("-" if ms is None else f"{ms:6.1f}" for ms in (row.p50_ms, row.p95_ms)),
            ]
            for row in of_task
        ]
        title = f"{task}: held-out interactions of {of_task[0].users:,} users, results by its own score"
        console.table(columns, lines, title)


def _snapshot(path: Path, surface: str) -> Snapshot:
    """The snapshot at a path, or the newest of the surface in the store there."""
    from meshfold.model.snapshot import MANIFEST, Snapshot
    from meshfold.model.store import Store

    if (path / MANIFEST).exists():
        return Snapshot.open(path, surface)
    published = Store(path).published(surface)
    if not published:
        raise SnapshotRefused(
            f"{path}: neither a snapshot nor a store with one of surface {surface!r};"
            " publish with `meshfold build`"
        )
    return Snapshot.open(published[0], surface)


def _tell_what_was_learned(built: Mapping[str, Any]) -> None:
    """Warns where the snapshot may have learned from the held-out interactions, which makes it look better than it
    is."""
    from meshfold.tools.evaluation import HELD_OUT_SHARE

    held_out = built.get("evaluation", {})
    for key in ("training", "config", "held_out"):
        held_out = held_out.get(key) if isinstance(held_out, dict) else None
    if not isinstance(held_out, int | float) or held_out < HELD_OUT_SHARE:
        print(
            f"meshfold: the snapshot does not say that the latest {HELD_OUT_SHARE:.0%} was held out when it learned;"
            " what has seen it looks better than it is",
            file=sys.stderr,
        )


def _write(folder: Path, snapshot: Snapshot, rows: Sequence[Mapping[str, Any]]) -> None:
    from meshfold.tools.quality_plot import draw

    folder.mkdir(parents=True, exist_ok=True)
    named = {"surface": snapshot.schema.surface, "version": snapshot.version, "items": snapshot.content.items}
    text = "".join(json.dumps({**named, **row}) + "\n" for row in rows)
    (folder / ROWS).write_text(text, encoding="utf-8")
    shown = [row for row in rows if row["users"]]
    if shown:
        draw(shown, f"{named['surface']}, {named['items']:,} items", folder / PLOT)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
