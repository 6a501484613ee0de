"""A server beyond its capacity: goodput, and the time to refuse the rest.

    python -m benchmarks.load.overload --keep

Open loop. First the peak is found for each deadline: the most answers a second that come OK within their deadline, over
a ramp of rates. The peak with deadlines of 1 s is the sustainable rate. Then multiples of it are offered with each
deadline, and after that half of it. Of each cell:

- goodput: answers OK within their deadline, counted from when the call should have started, a second; beside the peak
  with the same deadline and beside the sustainable rate. Without a deadline any OK is good.
- late: of the calls that were not rejected, the share that was not good. A rejection is RESOURCE_EXHAUSTED, or
  DEADLINE_EXCEEDED or UNAVAILABLE with a retry hint.
- p99 of what was accepted, rejections' time from sending to status, and how late the generator itself ran.
- recovery: from the end of the overload to the last call that failed or took longer than twice the usual p99.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.arguments import arguments
from benchmarks.load.server import Server
from benchmarks.load.world import WholeModel, World
from benchmarks.report import bench, keep, show
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.tools.bench_calls import RETRIEVE, Calls, Cost, Generator, Phase, Stream, quantile
from meshfold.tools.bench_generator import NOT_SENT

FACTORS = (1.2, 2.0, 3.0, 5.0)
# None: callers without a deadline.
DEADLINES_S = (0.1, 0.3, 1.0, None)
SUSTAINED_S = 1.0
# A short run has a small catalog, without tower and OverArch.
QUICK_ITEMS = 20_000
FIRST_HZ = 30.0
# A step with less goodput than this share of the offered rate ends the ramp.
SATURATED = 0.8
MOST_HZ = 3000.0
RECOVERY_S = 2.0
SHOWN = (
    "offered_hz",
    "goodput_hz",
    "of_peak",
    "late_share",
    "accepted_p99_ms",
    "reject_p99_ms",
    "recovery_s",
    "generator_cores",
)


@dataclass(frozen=True)
class Lengths:
    """Seconds of each part, and which rates are tried."""

    step_s: float = 5.0
    calm_s: float = 6.0
    overload_s: float = 13.0
    recovery_s: float = 8.0
    # Between the rates of a ramp, and of the best of it, tried again with each deadline.
    ramp: float = 1.5
    around: Sequence[float] = (0.7, 0.9, 1.1)


QUICK = Lengths(0.7, 0.7, 1.5, 1.0, 5.0, (1.0,))


def main() -> None:
    parser = arguments(__doc__, work="build/load", keep=True, items=400_000)
    parser.add_argument("--results", type=int, default=1000, help="that a request asks for")
    parser.add_argument(
        "--quick", action="store_true", help="two cells of a second each; no figures to go by"
    )
    args = parser.parse_args()
    work = args.work / "overload"
    work.mkdir(parents=True, exist_ok=True)
    world: World | WholeModel
    if args.quick:
        world = World(args.work, items=min(args.items, QUICK_ITEMS), results=args.results)
    else:
        world = WholeModel(args.work / "whole", args.items, args.results)
    world.make()
    with Server(world.store, work / "serve.log") as server:
        lengths = QUICK if args.quick else Lengths()
        overload = Overload(server, world, lengths)
        deadlines = DEADLINES_S[1:3] if args.quick else DEADLINES_S
        with console.progress() as progress:
            overload.find_peaks(deadlines)
            cells = [(factor, d) for d in deadlines for factor in (FACTORS[2:3] if args.quick else FACTORS)]
            rows = []
            for number, (factor, deadline_s) in enumerate(cells):
                rows.append(overload.cell(factor, deadline_s))
                progress("overload", number + 1, len(cells))
    show(rows, SHOWN, f"multiples of {overload.sustained_hz:.0f} requests a second, with callers' deadlines")
    figures = [row.figures for row in rows]
    bench(
        {
            "name": "overload",
            "worst_goodput": round(min(f["of_peak"] for f in figures), 3),
            "late": round(max(f["late_share"] for f in figures), 4),
            "reject_p99_ms": round(max(f["reject_p99_ms"] for f in figures), 1),
            "rows": str(keep(rows, args.keep, work)),
        }
    )


class Overload:
    """A server, its peaks and what is usual there."""

    def __init__(self, server: Server, world: World | WholeModel, lengths: Lengths) -> None:
        self._server = server
        self._world = world
        self._lengths = lengths
        self._seed = 0
        self.peaks_hz: dict[float | None, float] = {}
        self.usual_p99_ms = 0.0
        self._ask([Phase(FIRST_HZ, lengths.step_s, SUSTAINED_S)])  # what is allocated at first

    @property
    def sustained_hz(self) -> float:
        return self.peaks_hz[SUSTAINED_S]

    def find_peaks(self, deadlines: Sequence[float | None]) -> None:
        best_hz = self._ramp()
        for deadline_s in deadlines:
            tried = [self._goodput_hz(share * best_hz, deadline_s) for share in self._lengths.around]
            self.peaks_hz[deadline_s] = max(tried)
        self.peaks_hz[SUSTAINED_S] = max(best_hz, self.peaks_hz.get(SUSTAINED_S, 0.0))
        calm, _, _ = self._ask([Phase(self.sustained_hz / 2, self._lengths.calm_s, SUSTAINED_S)])
        self.usual_p99_ms = quantile(calm.latency_ms[calm.ok], 0.99)
        told = ", ".join(f"{_name(d)} {hz:.0f}" for d, hz in self.peaks_hz.items())
        console.print(f"peaks a second by deadline: {told}; usual p99 {self.usual_p99_ms:.0f} ms")

    def cell(self, factor: float, deadline_s: float | None) -> Row:
        lengths, offered_hz = self._lengths, factor * self.sustained_hz
        phases = [
            Phase(offered_hz, lengths.overload_s, deadline_s),
            Phase(self.sustained_hz / 2, lengths.recovery_s, deadline_s),
        ]
        cpu_s = self._server.resources().cpu_s
        calls, begin_s, cost = self._ask(phases)
        server_cores = (self._server.resources().cpu_s - cpu_s) / cost.wall_s
        end_s = begin_s + lengths.overload_s
        over = calls.where(calls.phase == 0)
        goodput_hz = _good(over, deadline_s, end_s).sum() / lengths.overload_s
        accepted = over.where(~over.rejected & (over.code != NOT_SENT))
        late = ~_good(accepted, deadline_s)
        rejected = over.where(over.rejected)
        reject_ms = 1000 * (rejected.end_s - rejected.sent_s)
        recovery_s, all_ok_s = self._recovery(calls.where(calls.phase == 1), end_s)
        return Row(
            name="overload",
            case=f"{factor:g} times, {_name(deadline_s)}",
            config={
                "factor": factor,
                "deadline_s": deadline_s,
                "items": self._world.items,
                "results": self._world.results,
                "sustained_hz": round(self.sustained_hz, 1),
                "peak_hz": round(self.peaks_hz[deadline_s], 1),
                "usual_p99_ms": round(self.usual_p99_ms, 1),
                "overload_s": lengths.overload_s,
                "codes": over.codes(),
            },
            figures={
                "offered_hz": len(over) / lengths.overload_s,
                "goodput_hz": float(goodput_hz),
                "of_peak": float(goodput_hz / max(self.peaks_hz[deadline_s], 1e-9)),
                "of_sustained": float(goodput_hz / self.sustained_hz),
                "late_share": float(late.mean()) if len(accepted) else 0.0,
                "accepted_p50_ms": quantile(accepted.latency_ms, 0.5),
                "accepted_p99_ms": quantile(accepted.latency_ms, 0.99),
                "rejected": len(rejected),
                "hinted": int((~np.isnan(rejected.pushback_ms)).sum()),
                "reject_p50_ms": quantile(reject_ms, 0.5),
                "reject_p99_ms": quantile(reject_ms, 0.99),
                "recovery_s": recovery_s,
                "recovery_all_ok_s": all_ok_s,
                "recovered_in_time": float(recovery_s <= RECOVERY_S),
                "not_sent": int((over.code == NOT_SENT).sum()),
                "generator_cores": cost.cpu_s / cost.wall_s,
                "generator_lag_p99_ms": cost.lag_p99_ms,
                "server_cores": server_cores,
                "server_rss_mb": self._server.resources().rss_mb,
            },
        )

    def _ramp(self) -> float:
        """The most good answers a second with SUSTAINED_S, over rising rates."""
        rate_hz, best_hz = FIRST_HZ, 0.0
        while rate_hz <= MOST_HZ:
            good_hz = self._goodput_hz(rate_hz, SUSTAINED_S)
            best_hz = max(best_hz, good_hz)
            if good_hz < SATURATED * rate_hz:
                break
            rate_hz *= self._lengths.ramp
        if not best_hz:
            raise SystemExit("no call was answered within its deadline; see the server's log")
        return best_hz

    def _goodput_hz(self, rate_hz: float, deadline_s: float | None) -> float:
        calls, begin_s, _ = self._ask([Phase(rate_hz, self._lengths.step_s, deadline_s)])
        seconds = self._lengths.step_s
        return float(_good(calls, deadline_s, begin_s + seconds).sum()) / seconds

    def _recovery(self, calls: Calls, end_s: float) -> tuple[float, float]:
        """Seconds from the end of the overload: to the last call that was not as usual, to the last that failed."""
        unusual = ~calls.ok | (calls.latency_ms > 2 * self.usual_p99_ms)
        last = [calls.due_s[chosen].max() - end_s if chosen.any() else 0.0 for chosen in (unusual, ~calls.ok)]
        return float(last[0]), float(last[1])

    def _ask(self, phases: Sequence[Phase]) -> tuple[Calls, float, Cost]:
        """The calls, and when they began; waits for the queue to be empty again."""
        self._seed += 1
        stream = Stream("caller", self._server.address, RETRIEVE, self._world.heavy, phases, channels=4)
        with Generator([stream], self._seed, drain_s=10.0) as generator:
            begin_s = generator.start()
            calls = generator.calls()["caller"]
        time.sleep(0.3)
        return calls, begin_s, generator.cost


def _good(calls: Calls, deadline_s: float | None, end_s: float = np.inf) -> np.ndarray:
    """Which were OK within their deadline, and before a moment."""
    in_time = calls.ok & (calls.end_s <= end_s)
    return in_time if deadline_s is None else in_time & (calls.latency_ms <= 1000 * deadline_s)


def _name(deadline_s: float | None) -> str:
    return "no deadline" if deadline_s is None else f"{1000 * deadline_s:g} ms"


if __name__ == "__main__":
    main()
