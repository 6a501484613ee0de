"""Half load for long, with swaps and mode switches: does memory grow, do threads, files and mappings stay?

    python -m benchmarks.load.soak --minutes 30 --keep

A server in front of a stand-in for a mesh, with a store of its own. Callers ask in an open loop at half of what the
server answered a second at first. Versions are published one after the other, each another one, and older ones are
removed; modes are switched, mirror among them. /proc is sampled meanwhile. The slope of the memory is Theil and Sen's,
with its 95 % interval, over the samples after the warm-up at which no swap is under way: a swap holds two snapshots.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from typing import Any

import grpc
import numpy as np
from scipy.stats import theilslopes

from benchmarks.arguments import arguments
from benchmarks.load.server import Server, StandIn
from benchmarks.load.soak_plot import draw
from benchmarks.load.world import ATTACKED, OTHER, World
from benchmarks.operators import set_mode
from benchmarks.report import bench, keep, show
from benchmarks.rows import Row
from benchmarks.waiting import sleep_until
from meshfold.commands import console
from meshfold.compat.client import CallFailed
from meshfold.model.snapshot import Snapshot, write_manifest
from meshfold.model.store import Store
from meshfold.protos.meshfold.v1 import retrieval_pb2
from meshfold.tools.bench_calls import RETRIEVE, Calls, Generator, Phase, Stream, quantile, send

OWN_RETRIEVE = "/meshfold.v1.RetrievalService/Retrieve"
MODES = (("only", 0.0), ("mirror", 0.0), ("serve", 0.0), ("canary", 50.0), ("mirror", 0.0))
SWITCHES = 40
DEADLINE_S = 5.0
# Callers one after the other that find out what the server answers a second.
CALLERS, TRIAL_S = 16, 5.0
# Parts of the run: samples count after the first, swaps happen between the two others.
WARM, SWAPS_FROM, SWAPS_TO = 0.25, 0.05, 0.95
# Share of the time between two swaps after which a swap is over.
SETTLED = 0.6
# Until the last swap is over.
LAST_SWAP_S = 20.0
# Most samples in a row.
MOST_SAMPLES = 300
SHOWN = ("slope_mb_per_hour", "slope_low", "slope_high", "rss_mb", "swaps", "calls", "failed", "p99_ms")


@dataclass(frozen=True)
class Sample:
    """at_s: since the start. settled: no swap is under way."""

    at_s: float
    settled: bool
    rss_mb: float
    anonymous_mb: float
    threads: int
    files: int
    replaced: int


def main() -> None:
    parser = arguments(__doc__, work="build/load", keep=True, items=20_000)
    parser.add_argument("--minutes", type=float, default=30.0, help="default: %(default)s")
    parser.add_argument("--swaps", type=int, default=100, help="default: %(default)s")
    args = parser.parse_args()
    work = args.work / "soak"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    world = World(args.work, items=args.items)
    world.make()
    store = Store(work / "store")
    for surface in (ATTACKED, OTHER):
        folder = world.newest(surface)
        shutil.copytree(folder, store.root / surface / folder.name)
    with StandIn(work / "mesh.log") as mesh:
        mesh.answer(0.0, world.results)
        flags = ["--mesh", mesh.address, "--migration-state", work / "modes.json"]
        with Server(store.root, work / "serve.log", *flags) as server:
            soak = Soak(server, world, store, 60 * args.minutes, args.swaps)
            soak.run()
    row = soak.row(args.minutes)
    show([row], SHOWN, f"{args.minutes:g} minutes at half load")
    plot = draw(row, None if args.keep else work / "soak.png")
    console.print(f"row in {keep([row], args.keep, work)}")
    figures = row.figures
    bench(
        {
            "name": "soak",
            "minutes": args.minutes,
            "slope_mb_per_hour": round(figures["slope_mb_per_hour"], 3),
            "threads": f"{figures['threads_least']:g}..{figures['threads_most']:g}",
            "files": f"{figures['files_least']:g}..{figures['files_most']:g}",
            "swaps": figures["swaps"],
            "failed": figures["failed"],
            "mapped_replaced": figures["mapped_replaced"],
            "plot": str(plot),
        }
    )


class Soak:
    """A server, its callers, a publisher and an operator."""

    def __init__(self, server: Server, world: World, store: Store, seconds: float, swaps: int) -> None:
        self._server = server
        self._world = world
        self._store = store
        self._seconds = seconds
        self._swaps = swaps
        self._begin_s = 0.0
        self._rate_hz = 0.0
        self._base = Snapshot.open(world.newest(ATTACKED))
        self._calls: dict[str, Calls] = {}
        self._samples: list[Sample] = []
        self._swapped_s: list[float] = []
        self._unseen = self._unswitched = self._switched = 0
        self._ended = threading.Event()

    def run(self) -> None:
        self._switch("only", 0.0)
        self._rate_hz = max(2.0, self._highest_hz() / 2)
        phases = [Phase(0.8 * self._rate_hz, self._seconds, DEADLINE_S)]
        others = [Phase(0.2 * self._rate_hz, self._seconds, DEADLINE_S)]
        address = self._server.address
        streams = [
            Stream("caller", address, RETRIEVE, self._world.heavy, phases, channels=4),
            Stream("other", address, RETRIEVE, self._world.light, others),
        ]
        with Generator(streams, drain_s=DEADLINE_S) as generator:
            self._begin_s = generator.start()
            threads = [threading.Thread(target=work) for work in (self._publish_on, self._switch_on)]
            for thread in threads:
                thread.start()
            self._sample_on()
            for thread in threads:
                thread.join()
            self._calls = generator.calls()
            self._cost = generator.cost
        # The last swap may be under way on a busy machine. What stays mapped after it stays for ever.
        end_s = time.monotonic() + LAST_SWAP_S
        while self._replaced() and time.monotonic() < end_s:
            time.sleep(0.2)
        self._mapped = len(self._replaced())

    def _sample_on(self) -> None:
        period_s = min(2.0, self._seconds / 60)
        with console.progress() as progress:
            for number in range(int(self._seconds / period_s)):
                self._wait_until(number * period_s)
                self._samples.append(self._sample())
                progress("soak", number + 1, int(self._seconds / period_s))
        self._wait_until(self._seconds)

    def _sample(self) -> Sample:
        at_s = time.monotonic() - self._begin_s
        held = self._server.resources()
        every_s = (SWAPS_TO - SWAPS_FROM) * self._seconds / max(self._swaps, 1)
        last_s = self._swapped_s[-1] if self._swapped_s else 0.0
        settled = at_s - last_s > SETTLED * min(every_s, 10.0) and not self._swapping
        replaced = len(self._replaced()) if settled else 0
        return Sample(at_s, settled, held.rss_mb, held.anonymous_mb, held.threads, held.files, replaced)

    _swapping = False

    def _replaced(self) -> set[str]:
        """Mapped files of the store that are of no newest snapshot."""
        newest = [str(self._store.published(surface)[0]) for surface in (ATTACKED, OTHER)]
        root = str(self._store.root)
        mapped = {name for name in self._server.mapped() if root in name}
        return {
            name
            for name in mapped
            if name.endswith(" (deleted)") or not any(folder in name for folder in newest)
        }

    def _publish_on(self) -> None:
        every_s = (SWAPS_TO - SWAPS_FROM) * self._seconds / max(self._swaps, 1)
        for number in range(self._swaps):
            self._wait_until(SWAPS_FROM * self._seconds + number * every_s)
            self._swapping = True
            version = self._publish(number + 1)
            if self._answered_by(version, every_s):
                self._swapped_s.append(time.monotonic() - self._begin_s)
            else:
                self._unseen += 1
            for folder in self._store.published(ATTACKED)[2:]:
                shutil.rmtree(folder)
            self._swapping = False

    def _publish(self, number: int) -> str:
        """The same items under another version: what is hashed has another seed."""
        base = self._base
        content = replace(base.content, config=replace(base.content.config, seed=number))
        with self._store.partial(ATTACKED) as partial:
            for name in content.files:
                shutil.copy(base.folder / name, partial)
            write_manifest(partial, content, base.built)
            self._store.publish(ATTACKED, partial, content.version)
        return content.version

    def _answered_by(self, version: str, within_s: float) -> bool:
        """Whether the model answers from a version soon."""
        request = retrieval_pb2.RetrieveRequest(surface=ATTACKED, max_results=1)
        end_s = time.monotonic() + max(within_s, 5.0)
        with grpc.insecure_channel(self._server.address) as channel:
            ask: Any = channel.unary_unary(
                OWN_RETRIEVE,
                request_serializer=retrieval_pb2.RetrieveRequest.SerializeToString,
                response_deserializer=retrieval_pb2.RetrieveResponse.FromString,
            )
            while time.monotonic() < end_s:
                try:
                    if ask(request, timeout=2.0).version == version:
                        return True
                except grpc.RpcError as error:
                    print(f"the publisher's call failed: {error.code().name}", file=sys.stderr)
                time.sleep(0.2)
        return False

    def _switch_on(self) -> None:
        modes: Iterator[tuple[str, float]] = cycle(MODES)
        for number in range(SWITCHES):
            self._wait_until(number * self._seconds / SWITCHES)
            try:
                self._switch(*next(modes))
                self._switched += 1
            except CallFailed as error:
                self._unswitched += 1
                print(f"a mode was not switched: {error}", file=sys.stderr)

    def _switch(self, mode: str, percent: float) -> None:
        set_mode(self._server.admin_address, ATTACKED, mode, percent, "soak")

    def _highest_hz(self) -> float:
        """Answers a second while a few callers ask one after the other."""
        seconds = min(TRIAL_S, self._seconds / 4)
        stream = Stream(
            "caller",
            self._server.address,
            RETRIEVE,
            self._world.heavy,
            [Phase(2000.0, seconds, DEADLINE_S)],
            "even",
            most_under_way=CALLERS,
        )
        return float(send([stream])[0]["caller"].ok.sum()) / seconds

    def _wait_until(self, at_s: float) -> None:
        sleep_until(self._begin_s + at_s)

    def row(self, minutes: float) -> Row:
        warm = [s for s in self._samples if s.at_s >= WARM * self._seconds]
        counted = [s for s in warm if s.settled] or warm
        slopes = {
            name: theilslopes([getattr(s, name) for s in counted], [s.at_s / 3600 for s in counted])
            for name in ("rss_mb", "anonymous_mb")
        }
        rss = slopes["rss_mb"]
        times_ms = np.concatenate([calls.latency_ms for calls in self._calls.values()])
        figures = {
            "slope_mb_per_hour": float(rss.slope),
            "slope_low": float(rss.low_slope),
            "slope_high": float(rss.high_slope),
            "anonymous_slope_mb_per_hour": float(slopes["anonymous_mb"].slope),
            "rss_mb": counted[-1].rss_mb,
            "rss_most_mb": max(s.rss_mb for s in self._samples),
            "threads_least": min(s.threads for s in counted),
            "threads_most": max(s.threads for s in counted),
            "files_least": min(s.files for s in counted),
            "files_most": max(s.files for s in counted),
            "mapped_replaced": self._mapped,
            "swaps": len(self._swapped_s),
            "swaps_unseen": self._unseen,
            "switches": self._switched,
            "switches_failed": self._unswitched,
            "calls": len(times_ms),
            "failed": sum(int((~calls.ok).sum()) for calls in self._calls.values()),
            "p50_ms": quantile(times_ms, 0.5),
            "p99_ms": quantile(times_ms, 0.99),
            "generator_cores": self._cost.cpu_s / self._cost.wall_s,
        }
        codes = {name: calls.codes() for name, calls in self._calls.items()}
        config = {
            "minutes": minutes,
            "items": self._world.items,
            "rate_hz": round(self._rate_hz, 1),
            "warm": WARM,
            "codes": codes,
            "samples": _thinned(self._samples),
            "swapped_s": [round(at_s, 1) for at_s in self._swapped_s],
        }
        return Row("soak", f"{minutes:g} minutes", config, figures)


def _thinned(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """At most about MOST_SAMPLES samples, for a plot."""
    chosen = samples[:: max(1, len(samples) // MOST_SAMPLES)]
    return [{k: round(v, 2) for k, v in asdict(s).items() if v == v} for s in chosen]


if __name__ == "__main__":
    main()
