"""The best settings of the headline's mesh: threads, workers, and replicas with a channel each.

    python -m benchmarks.headline.mesh_sweep --keep

The settings with the highest rate at which 99 % of the answers come within 100 ms are those that the headline compares
(mesh_settings.py).
"""

from __future__ import annotations

import os

from benchmarks.arguments import arguments
from benchmarks.headline.case import SATURATING, SMALL, Lengths
from benchmarks.headline.mesh_settings import SWEPT, MeshSettings
from benchmarks.headline.sides import mesh
from benchmarks.headline.world import RANKED, HeadlineWorld
from benchmarks.report import bench, keep, show
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.tools.bench_search import highest_rate

_LIMIT_MS = 100.0


def settings() -> list[MeshSettings]:
    """From one of everything up to the cores of the machine."""
    cores = max(2, os.cpu_count() or 1)
    return [
        MeshSettings(),
        MeshSettings(workers=2),
        MeshSettings(workers=cores * 2),
        MeshSettings(threads=cores),
        MeshSettings(threads=cores, workers=2),
        MeshSettings(replicas=2),
    ]


def row_of(world: HeadlineWorld, of: MeshSettings, lengths: Lengths) -> Row:
    with mesh(world.store(RANKED), world.home, of) as side:
        target = side.target(world.messages(), _LIMIT_MS)
        target.loop(4, lengths.warm_s)
        found = highest_rate(target.window, lengths.search)
        busy = target.loop(SATURATING, lengths.loop_s)
        cpu_ms = 1000 * side.spent.cpu_s / max(busy.answered, 1)
        one = target.loop(1, lengths.loop_s / 2)
        figures = {
            "rate_hz": found.rate_hz,
            "rate_low_hz": found.low_hz,
            "rate_high_hz": found.high_hz,
            "saturated_hz": busy.rate_hz,
            "cpu_ms": cpu_ms,
            "one_p50_ms": one.p50_ms,
            "memory_mb": side.tree.proportional_mb(),
        }
    config = {"items": world.items, "dimension": world.dimension, "p99_ms": _LIMIT_MS, **vars(of)}
    return Row(SWEPT, str(of), config, {name: round(value, 3) for name, value in figures.items()})


def main() -> None:
    parser = arguments(__doc__, work="build/headline", keep=True, items=1_000_000, dimension=128)
    parser.add_argument("--small", action="store_true", help="20,000 items and short; no figures to go by")
    args = parser.parse_args()
    items, dimension = (20_000, 64) if args.small else (args.items, args.dimension)
    world = HeadlineWorld(args.work, items, dimension)
    world.make()
    rows, tried = [], settings()
    with console.progress() as progress:
        for done, of in enumerate(tried):
            progress("settings of the mesh", done, len(tried))
            rows.append(row_of(world, of, SMALL if args.small else Lengths()))
    show(rows, list(rows[0].figures), "the mesh by its settings")
    path = keep(rows, args.keep and not args.small, world.home / "sweep")
    best = max(rows, key=lambda row: row.figures["rate_hz"])
    bench({"name": SWEPT, "best": best.case, "rate_hz": best.figures["rate_hz"], "rows": str(path)})


if __name__ == "__main__":
    main()
