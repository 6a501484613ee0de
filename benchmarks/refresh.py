"""A daily refresh on MovieLens: what items that were added are worth before anybody met them, and what a day costs.

    python -m benchmarks.refresh --data ml-latest-small --keep

Day 0 knows all movies but ADDED and each user's interactions but the latest tenth; a model is trained. Day 1 has the
added movies and lacks REMOVED others, with the same model and the interactions of day 0: `meshfold build`. Day 2 has
all interactions: `meshfold train --from`, `meshfold build`. Every step is a command, as one would call it. The last
line is a JSON object after BENCH.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.arguments import arguments
from benchmarks.processes import MESHFOLD
from benchmarks.report import bench, written
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.model.data.catalog import Catalog, numbers_of_keys
from meshfold.model.data.interactions import Bools, Interactions, places_of
from meshfold.model.data.source import open_source
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.model.train.model_folder import METRICS
from meshfold.model.types import Int64s, Query
from meshfold.service.runner import Runner

ADDED = REMOVED = 500
# Share of each user's interactions, the latest, that come on day 2.
LATE_SHARE = 0.1
RESULTS = 500
AT = (100, 500)
SCHEMA = """
surface = "movies"
[items]
source = "items.parquet"
id = "item"
[fields.title]
kind = "text"
[fields.genres]
kind = "categories"
[fields.year]
kind = "number"
[fields.tags]
kind = "categories"
[interactions]
source = "interactions.parquet"
user = "user"
item = "item"
time = "time"
[tasks.watch]
[tasks.like]
where = "liked == 1"
"""


@dataclass(frozen=True, eq=False)
class World:
    """Everything, and which movies come late or leave: added, removed: places in the catalog, ascending."""

    catalog: Catalog
    interactions: Interactions
    added: Int64s
    removed: Int64s

    @property
    def early(self) -> Interactions:
        """Interactions known on day 0 and 1."""
        earlier = self.interactions.split_latest(LATE_SHARE)[0]
        return earlier.where(places_of(earlier.item_ids, self.catalog.item_ids[self.added]) < 0)


def main() -> None:
    parser = arguments(__doc__, work="build/refresh", keep=True)
    parser.add_argument("--data", type=Path, required=True, help="a MovieLens folder")
    parser.add_argument("--seed", type=int, default=0, help="of what is added and removed")
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    world = world_of(args.data, args.seed)
    days = [args.work / f"day{day}" for day in range(3)]
    everything = np.arange(len(world.catalog))
    write_day(world, days[0], np.setdiff1d(everything, world.added), world.early)
    write_day(world, days[1], np.setdiff1d(everything, world.removed), world.early)
    write_day(world, days[2], np.setdiff1d(everything, world.removed), world.interactions)
    store = args.work / "store"
    seconds = {
        "train_s": run("train", days[0], "--out", args.work / "model"),
        "build_s": run("build", days[0], "--model", args.work / "model", "--store", store),
        "rebuild_s": run("build", days[1], "--model", args.work / "model", "--store", store),
    }
    figures = dict(figures_of(world, store))
    seconds |= {
        "retrain_s": run("train", days[2], "--from", args.work / "model", "--out", args.work / "newer"),
        "last_build_s": run("build", days[2], "--model", args.work / "newer", "--store", store),
    }
    figures |= qualities(args.work / "newer")
    config = {"seed": args.seed, "items": len(world.catalog), "added": ADDED, "removed": REMOVED}
    row = Row("refresh", "a day", config, figures | seconds)
    console.table(["figure", "value"], [[name, f"{value:.4f}"] for name, value in row.figures.items()])
    written([row], args.keep)
    told = {name: round(value, 4) for name, value in row.figures.items()}
    bench({"name": "refresh", "added": ADDED, "removed": REMOVED, **told})
    sys.exit(0 if figures["removed_returned"] == 0 else 1)


def qualities(model: Path) -> Mapping[str, float]:
    """NDCG@50 on held-out interactions, of the model before training and after it."""
    rankings = json.loads((model / METRICS).read_text())["rankings"]
    names = {
        "started": "start, exact",
        "refreshed": "towers, exact",
        "refreshed_over_arch": "over_arch, index",
    }
    return {f"{name}_ndcg@50": rankings[ranking]["watch"]["ndcg@50"] for name, ranking in names.items()}


def world_of(data: Path, seed: int) -> World:
    source = open_source(data)
    catalog, interactions = source.catalog(), source.interactions()
    assert interactions is not None
    order = np.random.default_rng(seed).permutation(len(catalog))
    return World(catalog, interactions, np.sort(order[:ADDED]), np.sort(order[ADDED : ADDED + REMOVED]))


def write_day(world: World, folder: Path, places: Int64s, interactions: Interactions) -> None:
    """The movies at places, and the interactions with them, as tables that a schema describes."""
    folder.mkdir()
    catalog = world.catalog
    years = catalog.columns["year"]
    table = {
        "item": catalog.item_ids[places],
        "title": [catalog.texts["title"][p] for p in places.tolist()],
        "genres": [strings_of(catalog, "genres", p) for p in places.tolist()],
        "tags": [strings_of(catalog, "tags", p) for p in places.tolist()],
        "year": [
            next(iter(numbers_of_keys(years.values[slice(*years.offsets[p : p + 2])])), None) for p in places
        ],
    }
    pq.write_table(pa.table(table), folder / "items.parquet")
    met = interactions.where(places_of(interactions.item_ids, catalog.item_ids[places]) >= 0)
    columns = {"user": met.user_ids, "item": met.item_ids, "time": met.times}
    columns["liked"] = met.tasks["like"].astype(np.int64)
    pq.write_table(pa.table(columns), folder / "interactions.parquet")
    (folder / "schema.toml").write_text(SCHEMA)


def genres_of(catalog: Catalog) -> Bools:
    """[N, G] bool - which genres each movie has."""
    column = catalog.columns["genres"]
    assert column.vocabulary is not None
    has = np.zeros((len(catalog), len(column.vocabulary)), bool)
    has[np.repeat(np.arange(len(catalog)), np.diff(column.offsets)), column.values] = True
    return has


def strings_of(catalog: Catalog, field: str, place: int) -> list[str]:
    column = catalog.columns[field]
    assert column.vocabulary is not None
    held = column.values[column.offsets[place] : column.offsets[place + 1]]
    return [column.vocabulary[code] for code in held.tolist()]


def run(*words: str | Path) -> float:
    """Runs a command of ours and returns how long it took."""
    console.print(f"meshfold {' '.join(map(str, words))}")
    start_s = time.perf_counter()
    subprocess.run([*MESHFOLD, *words], check=True)
    return time.perf_counter() - start_s


def figures_of(world: World, store: Path) -> Mapping[str, float]:
    """Figures of the newest snapshot's answers to users with the histories of day 0.

    found@K: of the interactions with added movies, which no training of day 0 has seen, the share whose movie is among
    the user's first K. chance@K: the same for a random order. popular@K: for the order of popularity on day 0, in which
    every added movie comes last. of_genre@K: of the added movies of the user's genre, the share among the first K, and
    others@K of those of other genres; a user's genre is the one of a tenth of the history or more that the history has
    most above all movies. removed_returned: removed movies in any answer.
    """
    snapshot = Snapshot.open(Store(store).published("movies")[0])
    runner = Runner(snapshot, "cpu")
    catalog, early = world.catalog, world.early
    added_ids, removed_ids = catalog.item_ids[world.added], catalog.item_ids[world.removed]
    wanted = world.interactions.where(places_of(world.interactions.item_ids, added_ids) >= 0)
    genres = genres_of(catalog)
    hits, total, returned = dict.fromkeys(AT, 0), 0, 0
    shares: dict[str, list[float]] = {f"{name}@{k}": [] for name in ("of_genre", "others") for k in AT}
    for user in np.unique(wanted.user_ids).tolist():
        history = early.history(user)
        history = history[places_of(history, removed_ids) < 0]
        if not len(history):
            continue
        query = Query("movies", RESULTS, history=history)
        (answer,) = runner.run([runner.prepare(query)])
        ranks = places_of(added_ids, np.asarray(answer.item_ids))
        met = np.unique(wanted.item_ids[wanted.user_ids == user])
        of_user = genres[places_of(history, catalog.item_ids)].mean(0)
        above = np.where(of_user >= 0.1, of_user / genres.mean(0), 0.0)
        of_genre = genres[world.added, int(np.argmax(above))]
        for k in AT:
            first = (ranks >= 0) & (ranks < k)
            hits[k] += int(first[places_of(met, added_ids)].sum())
            shares[f"of_genre@{k}"].append(float(first[of_genre].mean()) if of_genre.any() else 0.0)
            shares[f"others@{k}"].append(float(first[~of_genre].mean()))
        total += len(met)
        returned += int((places_of(removed_ids, np.asarray(answer.item_ids)) >= 0).sum())
    items = snapshot.content.items
    figures = {f"found@{k}": hits[k] / total for k in AT} | {f"chance@{k}": k / items for k in AT}
    figures |= {f"popular@{k}": 0.0 for k in AT} | {
        name: float(np.mean(held)) for name, held in shares.items()
    }
    return figures | {"removed_returned": float(returned)}


if __name__ == "__main__":
    main()
