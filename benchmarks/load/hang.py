"""Callers who do not behave, beside one who does and an operator: who of the two notices?

    python -m benchmarks.load.hang --keep

A server with two surfaces, in front of a stand-in for a mesh or alone. One surface is attacked. A caller of the other
asks on at a steady rate in an open loop, with deadlines of 1 s, alone first and then during the attack. An operator
checks health at both addresses, reads modes and sets one; during the last seconds of an attack, when the caller is
done, it kills. Of each attack:

- ratio: the caller's p99 during the attack, beside alone: medians over blocks of time. failed: the caller's calls.
- operator_late: calls of the operator that failed or took more than 100 ms.
- memory before, the most meanwhile, and after; threads and files after.
- what the attacker did, and the cores that it took. It is last in line for the processor.

Two controls show what this machine does by itself: no attack, and as many cores burned as the costliest attacker took.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.arguments import arguments
from benchmarks.load.cases import CONTROL, Case, cases
from benchmarks.load.hang_sides import CALLER_HZ, CALLER_S, Lengths, Sides
from benchmarks.load.world import World
from benchmarks.report import bench, keep, show
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.tools.bench_calls import Calls, quantile

MOST_RATIO = 1.5
OPERATOR_MS = 100.0
BLOCK_S = 4.0
SHOWN = (
    "caller_alone_p99_ms",
    "caller_p99_ms",
    "ratio",
    "failed",
    "operator_late",
    "operator_max_ms",
    "extra_mb",
    "after_mb",
    "attacker_cores",
    "server_cores",
)
QUICK = Lengths(0.3, 0.6, 1.0, 0.5, 0.1)
# Attacks of a quick run: one of calls and two of streams, on one server.
QUICK_CASES = (
    "mesh hangs, deadlines of 60 s",
    "health checks without a message",
    "answers of the mesh that nobody reads",
)


def main() -> None:
    parser = arguments(__doc__, work="build/load", keep=True, items=100_000)
    parser.add_argument("--only", default="", help="attacks whose name contains this")
    parser.add_argument("--quick", action="store_true", help="three attacks of a second; no figures to go by")
    args = parser.parse_args()
    work = args.work / "hang"
    work.mkdir(parents=True, exist_ok=True)
    world = World(args.work, items=args.items)
    world.make()
    chosen = [c for c in cases() if args.only in c.name and (not args.quick or c.name in QUICK_CASES)]
    hang = Hang(world, work, QUICK if args.quick else Lengths())
    rows = hang.rows(chosen, controls=not args.quick)
    show(rows, SHOWN, f"a caller's p99 within {MOST_RATIO:g} times, an operator within {OPERATOR_MS:g} ms")
    path = keep(rows, args.keep, work)
    console.print(f"rows in {path}")
    attacks = [row.figures for row in rows if row.config["attack"]]
    bench(
        {
            "name": "hang",
            "attacks": len(attacks),
            "starved": sum(f["ratio"] > MOST_RATIO or f["failed"] > 0 for f in attacks),
            "operator_late": int(sum(f["operator_late"] for f in attacks)),
            "peak_extra_mb": round(max(f["extra_mb"] for f in attacks), 1),
        }
    )


class Hang:
    """Attacks on a server in front of a mesh, then on one alone."""

    def __init__(self, world: World, work: Path, lengths: Lengths) -> None:
        self._world = world
        self._work = work
        self._lengths = lengths
        self._seed = 0

    def rows(self, chosen: Sequence[Case], controls: bool) -> list[Row]:
        rows: list[Row] = []
        with console.progress() as progress:
            for proxied in (True, False):
                group = [case for case in chosen if case.proxied == proxied]
                if controls and not proxied:
                    group = [CONTROL, *group]
                with Sides(self._world, self._work, proxied, self._lengths) as sides:
                    for case in group:
                        sides.make_well()
                        rows.append(self._row(sides, case))
                        progress("attacks", len(rows), len(chosen) + 2 * controls)
                    if controls and not proxied:
                        most = max(row.figures["attacker_cores"] for row in rows)
                        sides.make_well()
                        rows.append(self._row(sides, CONTROL, burn=most))
        return rows

    def _row(self, sides: Sides, case: Case, burn: float = 0.0) -> Row:
        """burn: cores that are burned in place of an attack."""
        name = f"{case.name}, {burn:.2f} cores burned" if burn else case.name
        self._seed += 1
        measured = sides.measure(case, self._lengths, self._seed, burn)
        lengths = self._lengths
        start_s = measured.begin_s + lengths.alone_s
        end_s = start_s + lengths.during_s
        caller = measured.calls["caller"]
        alone, during = caller.during(measured.begin_s, start_s), caller.during(start_s, end_s)
        alone_p99_ms, p99_ms = _blocks_p99_ms(alone), _blocks_p99_ms(during)
        operators = [c.during(start_s, np.inf) for n, c in measured.calls.items() if n != "caller"]
        times_ms = np.concatenate([c.latency_ms for c in operators])
        lates = [int((~c.ok | (c.latency_ms > OPERATOR_MS)).sum()) for c in operators]
        before, after = measured.before, measured.after
        return Row(
            name="hang",
            case=name,
            config={
                "attack": case.attack is not None,
                "server": "in front of a mesh" if case.proxied else "alone",
                "items": self._world.items,
                "caller_hz": CALLER_HZ,
                "during_s": lengths.during_s,
                "caller_codes": during.codes(),
                "attacker": {k: v for k, v in measured.attacker.items() if k != "cores"},
                "late_by_operator": {
                    n: late
                    for n, late in zip([n for n in measured.calls if n != "caller"], lates, strict=True)
                },
            },
            figures={
                "caller_alone_p50_ms": quantile(alone.latency_ms, 0.5),
                "caller_p50_ms": quantile(during.latency_ms, 0.5),
                "caller_alone_p99_ms": alone_p99_ms,
                "caller_p99_ms": p99_ms,
                "caller_max_ms": quantile(during.latency_ms, 1.0),
                "ratio": p99_ms / max(alone_p99_ms, 1e-9),
                "failed": int((~during.ok | (during.latency_ms > 1000 * CALLER_S)).sum()),
                "operator_calls": len(times_ms),
                "operator_late": sum(lates),
                "operator_p99_ms": quantile(times_ms, 0.99),
                "operator_max_ms": quantile(times_ms, 1.0),
                "before_mb": before.rss_mb,
                "extra_mb": measured.peak_mb - before.rss_mb,
                "after_mb": after.rss_mb - before.rss_mb,
                "threads_before": before.threads,
                "threads_peak": measured.threads_peak,
                "threads_after": after.threads,
                "files_before": before.files,
                "files_after": after.files,
                "attacker_cores": measured.attacker["cores"],
                "server_cores": (after.cpu_s - before.cpu_s) / (lengths.during_s + lengths.kill_s),
                "generator_cores": measured.generator_cores,
                "server_starts": sides.starts,
            },
        )


def _blocks_p99_ms(calls: Calls) -> float:
    """The median of the blocks' p99."""
    if not len(calls):
        return 0.0
    blocks = ((calls.due_s - calls.due_s.min()) // BLOCK_S).astype(int)
    return float(
        np.median([quantile(calls.latency_ms[blocks == block], 0.99) for block in set(blocks.tolist())])
    )


if __name__ == "__main__":
    main()
