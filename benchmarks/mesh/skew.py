"""Version skew: what a mesh loses when its user tower is of another version than its index, and how a model refuses it.

    python -m benchmarks.mesh.skew --data ml-latest-small --keep

Trains three models once below --work: on the oldest nine tenths of the interactions, on all of them, and on the former
again from another seed. A mesh answers for users whose latest fifth of interactions none of them has seen: with every
service on one version, then with the tower of another. Then the same mixture is made of a snapshot, and opened. Its
last line is a JSON object after BENCH.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.arguments import arguments
from benchmarks.mesh.caller import caller
from benchmarks.mesh.skew_plot import draw
from benchmarks.processes import mesh_up
from benchmarks.report import bench
from benchmarks.rows import Row, write_rows
from meshfold.commands import console
from meshfold.model.config import IndexConfig
from meshfold.model.data.source import open_source
from meshfold.model.errors import SnapshotRefused
from meshfold.model.progress import Progress
from meshfold.model.publishing import ModelParts, publish_data
from meshfold.model.snapshot import MANIFEST, USER_TOWER, Snapshot
from meshfold.model.store import Store
from meshfold.model.tensor_file import mark_of
from meshfold.model.train.config import OverArchKind, TrainConfig
from meshfold.model.train.examples import NOTHING
from meshfold.model.train.metrics import quality
from meshfold.model.train.training import train
from meshfold.model.types import Int64s
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.tools.evaluation import RESULTS, Histories

FIRST_SHARE = 0.9
USERS = 10_000
AT = 50


@dataclass(frozen=True)
class Trained:
    """A version: what it was trained on and from which seed."""

    name: str
    seed: int
    all_data: bool


FIRST = Trained("first", 0, False)
LATER = Trained("later", 0, True)
SEEDED = Trained("seeded", 1, False)


@dataclass(frozen=True)
class Mixture:
    """A mesh: the version of its tower, and of everything else."""

    case: str
    tower: Trained
    index: Trained


MIXTURES = (
    Mixture("one version", FIRST, FIRST),
    Mixture("one version, later data", LATER, LATER),
    Mixture("one version, another seed", SEEDED, SEEDED),
    Mixture("tower of later data, first index", LATER, FIRST),
    Mixture("tower of another seed, first index", SEEDED, FIRST),
)


def main() -> None:
    parser = arguments(__doc__, work="build/skew", keep=True)
    parser.add_argument("--data", type=Path, required=True, help="a MovieLens folder")
    args = parser.parse_args()
    with console.progress() as progress:
        for trained in (FIRST, LATER, SEEDED):
            _publish(args.data, args.work, trained, progress)
        rows = _measure(args.data, args.work, progress)
    console.table(
        ["mesh", *rows[0].figures], [[row.case, *row.figures.values()] for row in rows], "version skew"
    )
    refusals = refused(args.work)
    for refusal in refusals:
        console.print(f"the model refuses: {refusal}")
    if args.keep:
        console.print(f"rows written to {write_rows(rows)}, plot {draw(rows)}")
    by_case = {row.case: row.figures for row in rows}
    one, later, seeded = (by_case[MIXTURES[i].case] for i in (0, 3, 4))
    told = {
        "name": "skew",
        "recall": one[f"recall@{AT}"],
        "recall_tower_later": later[f"recall@{AT}"],
        "recall_tower_seeded": seeded[f"recall@{AT}"],
        "overlap_tower_later": later[f"overlap@{AT}"],
        "overlap_tower_seeded": seeded[f"overlap@{AT}"],
        "refused": len(refusals),
    }
    bench(told)


def _publish(data: Path, work: Path, trained: Trained, progress: Progress) -> None:
    """Trains and builds a version into a store of its own, unless it is there."""
    store = work / trained.name / "store"
    if Store(store).surfaces():
        return
    home = work / trained.name
    home.mkdir(parents=True, exist_ok=True)
    given = data if trained.all_data else _oldest(data, work / "oldest")
    if not (home / "model").exists():
        config = TrainConfig(seed=trained.seed, over_arch=OverArchKind.NONE)
        train(open_source(given), home / "model", config, progress)
    publish_data(given, ModelParts(model=home / "model"), store, IndexConfig(), progress)


def _oldest(data: Path, folder: Path) -> Path:
    """The same movies with the oldest ratings alone."""
    if not folder.exists():
        folder.mkdir()
        for file in data.glob("*.csv"):
            shutil.copy(file, folder)
        header, *lines = (data / "ratings.csv").read_text().splitlines()
        times = np.array([int(line.rpartition(",")[2]) for line in lines])
        kept = times <= np.quantile(times, FIRST_SHARE)
        lines = [line for line, keep in zip(lines, kept.tolist(), strict=True) if keep]
        (folder / "ratings.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder


def _measure(data: Path, work: Path, progress: Progress) -> list[Row]:
    interactions = open_source(data).interactions()
    assert interactions is not None
    first: Int64s | None = None
    rows = []
    for mixture in MIXTURES:
        snapshot = _snapshot(work, mixture.index)
        histories = Histories.split(snapshot, interactions, USERS)
        found = _answers(work, mixture, snapshot, histories, progress)
        first = found if first is None else first
        task = snapshot.schema.tasks[0]
        overlap = [np.isin(a[:AT], b[:AT]).mean() for a, b in zip(found, first, strict=True)]
        of_task = quality(found, histories.held[task])
        assert of_task is not None
        figures = {
            f"recall@{AT}": of_task.recall[AT],
            f"ndcg@{AT}": of_task.ndcg[AT],
            f"overlap@{AT}": float(np.mean(overlap)),
        }
        config = {
            "data": data.name,
            "users": len(found),
            "task": task,
            "held_out": 0.2,
            "first_share": FIRST_SHARE,
        }
        rows.append(Row("skew", mixture.case, config, figures))
    return rows


def _answers(
    work: Path, mixture: Mixture, snapshot: Snapshot, histories: Histories, progress: Progress
) -> Int64s:
    """[U, RESULTS] int64 - rows of items, NOTHING after the last."""
    ids = snapshot.items["item_ids"].numpy()
    found = np.full((len(histories.queries), RESULTS), NOTHING, np.int64)
    tower = f"--tower-store={work / mixture.tower.name / 'store'}"
    with (
        mesh_up(work / mixture.index.name / "store", work / "mesh.log", "--exact", tower) as told,
        caller(told["orchestrator"]["address"]) as retrieve,
    ):
        for user, history in enumerate(histories.queries):
            progress(mixture.case, user, len(histories.queries))
            request = pb.RetrieveRequest(surface=snapshot.schema.surface, max_results=RESULTS)
            # MovieLens has integer ids.
            assert not isinstance(history, tuple)
            request.user.history.extend(history.tolist())
            request.task_weights[snapshot.schema.tasks[0]] = 1.0
            answer = retrieve(request)
            assert answer.versions.user_tower == _snapshot(work, mixture.tower).version
            assert answer.versions.index == snapshot.version
            items = np.array([c.item_id for c in answer.candidates])
            found[user, : len(items)] = np.searchsorted(ids, items)
        progress(mixture.case, len(histories.queries), len(histories.queries))
    return found


def refused(work: Path) -> list[str]:
    """Why the same mixture is no snapshot: with the other tower's file in place of its own, and again with the manifest
    changed to name that file."""
    whole, other = _snapshot(work, FIRST), _snapshot(work, SEEDED)
    reasons = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "mixture"
        shutil.copytree(whole.folder, folder)
        shutil.copy(other.folder / USER_TOWER, folder / USER_TOWER)
        swaps: tuple[Callable[[], None], ...] = (lambda: None, lambda: _name_tower(folder))
        for swap in swaps:
            swap()
            try:
                Snapshot.open(folder)
            except SnapshotRefused as refusal:
                reasons.append(str(refusal).replace(f"{scratch}/", ""))
            else:
                raise SystemExit(f"{folder}: a mixture of two versions was opened")
    return reasons


def _name_tower(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    mark = mark_of(folder / USER_TOWER)
    assert mark is not None
    manifest["content"]["files"][USER_TOWER] = {"size_bytes": mark.size_bytes, "sha256": mark.sha256}
    (folder / MANIFEST).write_text(json.dumps(manifest))


_opened: dict[Path, Snapshot] = {}


def _snapshot(work: Path, trained: Trained) -> Snapshot:
    (surface,) = Store(work / trained.name / "store").surfaces()
    folder = Store(work / trained.name / "store").published(surface)[0]
    if folder not in _opened:
        _opened[folder] = Snapshot.open(folder)
    return _opened[folder]


if __name__ == "__main__":
    main()
