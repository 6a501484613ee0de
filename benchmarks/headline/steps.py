"""Gains of each step from the mesh to the model, and the parts of the processor time of both.

    python -m benchmarks.headline.steps --keep

The mesh, then the mesh with one service after another replaced by the model's server, which answers the same calls; at
last the model alone, so that no hop is left. Every way gets callers who keep it busy, and one caller, in turn. What a
step buys is the difference to the way before it, so that the steps add up to the difference between mesh and model.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.arguments import arguments
from benchmarks.headline.case import SATURATING
from benchmarks.headline.mesh_settings import best
from benchmarks.headline.plot import draw
from benchmarks.headline.sides import address_of, copied, of_mesh, services, started
from benchmarks.headline.world import RANKED, HeadlineWorld
from benchmarks.process_tree import ProcessTree
from benchmarks.report import bench, keep, show
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.compat.mesh.settings import RETRIEVAL, SCORING, TOWER
from meshfold.tools.bench_target import Target

# Ways by what answers of the mesh's services; what is not named is the model's server. The last has no orchestrator.
WAYS: Mapping[str, tuple[str, ...] | None] = {
    "the mesh": (TOWER, RETRIEVAL, SCORING),
    "search by the model's kernels": (TOWER, SCORING),
    "scoring by the model's kernels": (TOWER,),
    "user tower by the model": (),
    "no hops: the model": None,
}
_LIMIT_MS = 1000.0
_ROUNDS = 2
_WARM_S = 1.0


@dataclass
class Way:
    """An address, and the processes that take part in its answers."""

    address: str
    tree: ProcessTree
    busy_hz: list[float] = field(default_factory=list)
    busy_cpu_ms: list[float] = field(default_factory=list)
    one_cpu_ms: list[float] = field(default_factory=list)
    one_p50_ms: list[float] = field(default_factory=list)

    def measure(self, messages: Path, seconds: float) -> None:
        target = Target(self.address, messages, _LIMIT_MS)
        target.loop(2, _WARM_S)
        for callers in (SATURATING, 1):
            before_s = self.tree.cpu_s()
            loop = target.loop(callers, seconds)
            cpu_ms = 1000 * (self.tree.cpu_s() - before_s) / max(loop.answered, 1)
            if callers == 1:
                self.one_cpu_ms.append(cpu_ms)
                self.one_p50_ms.append(loop.p50_ms)
            else:
                self.busy_cpu_ms.append(cpu_ms)
                self.busy_hz.append(loop.rate_hz)

    def figures(self) -> dict[str, float]:
        return {
            "cpu_ms": median(self.busy_cpu_ms),
            "saturated_hz": median(self.busy_hz),
            "one_cpu_ms": median(self.one_cpu_ms),
            "one_p50_ms": median(self.one_p50_ms),
        }


@contextmanager
def ways(store: Path, home: Path) -> Iterator[dict[str, Way]]:
    """All ways over one snapshot, by name."""
    with ExitStack() as stack:
        served = stack.enter_context(
            started("serve", ["serve", "--store", store, "--admin-address", "none"], home)
        )
        behind = services(stack, store, home, best())
        made = {}
        for name, theirs in WAYS.items():
            if theirs is None:
                made[name] = Way(served[0], ProcessTree(served[1]))
                continue
            parts = {part: behind[part] if part in theirs else [served] for part in behind}
            words = ["mesh", "run", "orchestrator", *of_mesh(store, home)]
            words += [f"--{part}={address_of(replicas)}" for part, replicas in parts.items()]
            address, pid = stack.enter_context(started(name, words, home))
            pids = {pid, *(pid for replicas in parts.values() for _, pid in replicas)}
            made[name] = Way(address, ProcessTree(*pids))
        yield made


def steps(world: HeadlineWorld, seconds: float) -> list[Row]:
    """A row a way, in the order of WAYS."""
    config = {"items": world.items, "dimension": world.dimension, "rounds": _ROUNDS, "seconds": seconds}
    with console.progress() as progress, ways(world.store(RANKED), world.home) as all_ways:
        for done in range(_ROUNDS):
            for place, name in enumerate(list(all_ways)[:: -1 if done % 2 else 1]):
                progress("steps", done * len(all_ways) + place, _ROUNDS * len(all_ways))
                all_ways[name].measure(world.messages(), seconds)
        progress("steps", 1, 1)
    return [Row("headline_steps", name, config, way.figures()) for name, way in all_ways.items()]


def stages(world: HeadlineWorld, whole: Mapping[str, float]) -> list[Row]:
    """A row a side: its stages, and what of the whole is in none. whole: ms of the processor a request, by side."""
    place = [copied(world.store(RANKED), world.home), world.messages(), world.home / "indices"]
    words = [sys.executable, "-m", "benchmarks.headline.stages", *map(str, place)]
    told = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)
    rows = []
    for side, by_stage in told.items():
        figures = {f"{stage}_ms": ms for stage, ms in by_stage.items()}
        figures["rest_ms"] = max(0.0, whole[side] - sum(by_stage.values()))
        config = {"items": world.items, "dimension": world.dimension}
        rows.append(Row("headline_stages", side, config, {"whole_ms": whole[side], **figures}))
    return rows


def main() -> None:
    parser = arguments(__doc__, work="build/headline", keep=True, items=1_000_000, dimension=128)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a loop (default: %(default)g)")
    parser.add_argument("--small", action="store_true", help="20,000 items and short; no figures to go by")
    args = parser.parse_args()
    items, dimension = (20_000, 64) if args.small else (args.items, args.dimension)
    world = HeadlineWorld(args.work, items, dimension)
    world.make()
    of_ways = steps(world, 1.0 if args.small else args.seconds)
    whole: dict[str, float] = defaultdict(float)
    whole["mesh"], whole["model"] = (of_ways[place].figures["cpu_ms"] for place in (0, -1))
    of_sides = stages(world, whole)
    show(of_ways, list(of_ways[0].figures), "ways from the mesh to the model")
    show(of_sides, list(of_sides[0].figures), "ms of the processor a request")
    kept = args.keep and not args.small
    if kept:
        console.print(f"drawn to {draw(of_sides)}")
    keep(of_sides, kept, world.home / "stages")
    path = keep(of_ways, kept, world.home / "steps")
    told = {row.case: round(row.figures["cpu_ms"], 2) for row in of_ways}
    bench({"name": "headline_steps", "cpu_ms": told, "rows": str(path)})


if __name__ == "__main__":
    main()
