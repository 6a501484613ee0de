"""The headline: the mesh and the model over one snapshot, in turn on the same cores.

    python -m benchmarks.headline.run --keep

A million generated items with trained weights are made once in build/headline. Measured for each side: the highest
rate at which 99 % of the answers come within 100 ms (an open loop), 16 callers who keep it busy, and one caller; then
both at the mesh's highest rate. Processor time is that of all processes of a side. A side that is not measured is
stopped. Its last line is a JSON object after BENCH.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.arguments import arguments
from benchmarks.headline.case import SMALL, Lengths, Measured, measure, request_bytes
from benchmarks.headline.forward import over_forward
from benchmarks.headline.mesh_settings import best
from benchmarks.headline.recall import exact_answers, recalls
from benchmarks.headline.sides import MESH, MODEL, both
from benchmarks.headline.world import PLAIN, RANKED, RESULTS, HeadlineWorld
from benchmarks.report import bench, keep, show
from benchmarks.rows import Row
from meshfold.commands import console

SHOWN = (
    "rate_hz",
    "rate_low_hz",
    "rate_high_hz",
    "saturated_hz",
    "cpu_ms",
    "equal_p50_ms",
    "equal_p99_ms",
    "equal_cpu_ms",
    "recall",
    "memory_mb",
    "others_cores",
)


@dataclass(frozen=True)
class Case:
    """kind: RANKED or PLAIN. callers: of closed loops beside those that keep a server busy."""

    name: str
    kind: str
    results: int
    callers: tuple[int, ...] = (1,)


HEADLINE = Case("headline", RANKED, RESULTS)
WITHOUT = Case("without OverArch", PLAIN, RESULTS)
FEW = Case("100 results", RANKED, 100)
# Callers of HEADLINE with --all.
_MORE_CALLERS = (1, 64)


def main() -> None:
    parser = arguments(__doc__, work="build/headline", keep=True, items=1_000_000, dimension=128)
    parser.add_argument("--p99", type=float, default=100.0, help="the limit in ms (default: %(default)g)")
    parser.add_argument("--no-over-arch", action="store_true", help="also without the OverArch")
    parser.add_argument("--all", action="store_true", help="also that, 100 results, and 64 callers")
    parser.add_argument("--small", action="store_true", help="20,000 items and short; no figures to go by")
    args = parser.parse_args()
    lengths = SMALL if args.small else Lengths()
    items, dimension = (20_000, 64) if args.small else (args.items, args.dimension)
    world = HeadlineWorld(args.work, items, dimension)
    world.make()
    console.print(f"the OverArch changes {world.facts['over_arch_changes']:.1%} of the best results")
    cases = [replace(HEADLINE, callers=_MORE_CALLERS) if args.all else HEADLINE]
    if args.all or args.no_over_arch:
        cases.append(WITHOUT)
    if args.all:
        cases.append(FEW)
    rows = []
    for case in cases:
        start_s = time.monotonic()
        rows += measure_case(world, case, args.p99, lengths)
        console.print(f"{case.name}: {time.monotonic() - start_s:.0f} s")
    show(rows, SHOWN, f"{items:,} items x {dimension}, p99 within {args.p99:g} ms, {rows[0].device}")
    path = keep(rows, args.keep and not args.small, world.home)
    for case in cases[::-1]:
        bench(_told(rows, case, str(path)))


def measure_case(world: HeadlineWorld, case: Case, limit_ms: float, lengths: Lengths) -> list[Row]:
    """A row a side."""
    store, messages = world.store(case.kind), world.messages(case.results)
    exact, settings = exact_answers(store, world.home, messages), best()
    with console.progress() as progress, both(store, world.home, settings) as sides:
        recall = recalls(sides, messages, exact)
        measured = measure(sides, messages, limit_ms, replace(lengths, callers=case.callers), progress)
    over = over_forward(store, world.home, messages, lengths.loop_s / 4)
    config: dict[str, Any] = {
        "items": world.items,
        "dimension": world.dimension,
        "results": case.results,
        "over_arch": case.kind == RANKED,
        "p99_ms": limit_ms,
        "mesh": str(settings),
        "over_arch_changes": round(world.facts["over_arch_changes"], 4),
    }
    size = request_bytes(messages)
    return [
        _row(
            case,
            name,
            config,
            of_side,
            {"recall": recall[name], "request_bytes": size, **(over if name == MODEL else {})},
        )
        for name, of_side in measured.items()
    ]


def _row(
    case: Case, name: str, config: Mapping[str, Any], of_side: Measured, more: Mapping[str, float]
) -> Row:
    figures = {key: round(value, 4) for key, value in {**of_side.figures(), **more}.items()}
    return Row("headline", f"{case.name}, {name}", dict(config), figures)


def _told(rows: Sequence[Row], case: Case, path: str) -> dict[str, Any]:
    """The figures of the last line."""
    by_case = {row.case: row.figures for row in rows}
    of_mesh, of_model = (by_case[f"{case.name}, {name}"] for name in (MESH, MODEL))

    def ratio(above: float, below: float) -> float:
        return round(above / below, 2) if below else 0.0

    return {
        "name": case.name,
        "rate_model": round(of_model["rate_hz"], 1),
        "rate_mesh": round(of_mesh["rate_hz"], 1),
        "rate_ratio": ratio(of_model["rate_hz"], of_mesh["rate_hz"]),
        "saturated_ratio": ratio(of_model["saturated_hz"], of_mesh["saturated_hz"]),
        "cpu_ms_model": round(of_model["cpu_ms"], 2),
        "cpu_ms_mesh": round(of_mesh["cpu_ms"], 2),
        "cpu_ratio": ratio(of_mesh["cpu_ms"], of_model["cpu_ms"]),
        "p50_over_forward_ms": round(of_model["p50_over_forward_ms"], 2),
        "recall_model": round(of_model["recall"], 4),
        "recall_mesh": round(of_mesh["recall"], 4),
        "rows": path,
    }


if __name__ == "__main__":
    main()
