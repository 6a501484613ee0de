"""An OverArch in integers beside float32: how long it takes, what of the best results it keeps, what NDCG it loses.

The catalog, user tower and OverArch are those of the headline: weights are trained, so that the OverArch decides the
order. Timed: random users and candidates, both precisions in turn. Compared: users that nothing was learned from, with
held-out items that they would take.

    python -m benchmarks.layers_int8 --items 1000000
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from torch import Tensor

from benchmarks.arguments import arguments
from benchmarks.headline import learning
from benchmarks.headline.catalog import TASKS, catalog_of
from benchmarks.headline.world import RANKED, HeadlineWorld
from benchmarks.report import bench, written
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.kernels.native import library
from meshfold.model.config import Precision
from meshfold.model.precision import SampleUsers, compare
from meshfold.model.program import Program
from meshfold.model.progress import Progress
from meshfold.model.ranking import ProgramRanking
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import OVER_ARCH, Snapshot
from meshfold.model.store import Store
from meshfold.model.train.metrics import HeldOut
from meshfold.model.types import Int64s


def main() -> None:
    parser = arguments(__doc__, work="build/headline", keep=True, items=1_000_000, dimension=128)
    parser.add_argument(
        "--users", type=int, default=200, help="whose results and held-out items are compared"
    )
    parser.add_argument(
        "--candidates", type=int, default=4096, help="of a timed query; compared users have the snapshot's"
    )
    parser.add_argument("--queries", type=int, default=200, help="that are timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    world = HeadlineWorld(args.work, args.items, args.dimension)
    world.make()
    store = Store(world.store(RANKED))
    snapshot = Snapshot.open(store.published(store.surfaces()[0])[0])
    with console.progress() as progress:
        times = measured_ms(snapshot, args.candidates, args.queries, progress)
        compared = compare(snapshot, sample_users(world, args.users, progress), progress)
    figures = {
        "float32_ms": times[Precision.FLOAT32],
        "int8_ms": times[Precision.INT8],
        "speedup_vs_float32": times[Precision.FLOAT32] / times[Precision.INT8],
        "kept_at_max_results": compared.kept,
        "ndcg_float32": compared.ndcg_float32,
        "ndcg_loss": compared.ndcg_loss,
        "over_arch_changes": float(world.facts["over_arch_changes"]),
    }
    config = {name: getattr(args, name) for name in ("items", "dimension", "users", "candidates")}
    row = Row("layers_int8", f"{library.level()}, {args.candidates:,} candidates", config, figures)
    console.table(
        ["figure", ""],
        [[name, round(value, 4)] for name, value in figures.items()],
        f"OverArch of {args.candidates:,} candidates, {library.level()}, {row.device}",
    )
    written([row], args.keep)
    told = {
        name: round(figures[name], 5) for name in ("speedup_vs_float32", "kept_at_max_results", "ndcg_loss")
    }
    bench({"name": "layers_int8", **told})


def measured_ms(
    snapshot: Snapshot, candidates: int, queries: int, progress: Progress
) -> dict[Precision, float]:
    """The median time of a query's OverArch, items' vectors or codes included. The two take turns."""
    index = RetrievalModel.of(snapshot).index.in_huge_pages()
    rankings = {
        precision: ProgramRanking(_program(snapshot), precision)
        for precision in (Precision.FLOAT32, Precision.INT8)
    }
    tasks = len(snapshot.schema.tasks)
    random = np.random.default_rng(0)
    times: dict[Precision, list[float]] = {precision: [] for precision in rankings}
    with torch.inference_mode():
        for query in range(queries + 10):
            progress("timing", query, queries + 10)
            positions = torch.from_numpy(random.choice(snapshot.content.items, (1, candidates)))
            users = torch.randn(1, tasks, snapshot.content.dimension) / snapshot.content.dimension**0.5
            similarities = index.similarities(index.quantize(users), positions)
            for precision, ranking in rankings.items():
                start_s = time.perf_counter()
                ranking(users, positions, similarities, index.vectors, index.coded)
                times[precision].append(time.perf_counter() - start_s)
    # The first calls set up much that later ones find.
    return {precision: statistics.median(of[10:]) * 1e3 for precision, of in times.items()}


def _program(snapshot: Snapshot) -> Program:
    program = snapshot.program(OVER_ARCH)
    assert program is not None
    return program


def sample_users(world: HeadlineWorld, count: int, progress: Progress) -> SampleUsers:
    """Users that nothing was learned from. Held out, for each task: a random draw from the 4,096 items most similar to
    the user."""
    catalog = catalog_of(world.items, world.dimension)
    vectors = np.concatenate(list(catalog.vectors()))
    preferences = learning.Preferences(vectors)
    users = learning.Users.draw(count, vectors, preferences, seed=2)
    offered = learning.candidates_of(torch.from_numpy(users.vectors).unsqueeze(1), vectors, 4096, progress)
    taken = preferences.taken(torch.from_numpy(users.vectors), offered)
    luck = torch.rand(taken.shape, generator=torch.Generator().manual_seed(0)) < taken
    held = [_held(offered, luck[:, task], world.items) for task in range(len(TASKS))]
    return SampleUsers(
        list(users.histories), held, catalog.item_ids, np.argsort(catalog.order(), kind="stable")
    )


def _held(offered: Int64s, taken: Tensor, items: int) -> HeldOut:
    keys = np.arange(len(offered))[:, None] * items + offered
    return HeldOut(np.sort(keys[taken.numpy()]), taken.sum(1).numpy(), items)


if __name__ == "__main__":
    main()
