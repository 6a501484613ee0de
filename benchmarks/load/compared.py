"""Cost of comparing answers for callers: two servers in front of one mesh, with comparison and without.

`states`: the model answers and the mesh shadows, healthy and in trouble. `half_load`: the mesh answers, the model
shadows, 5 % of the pairs are compared. `memory`: of the server that compares, over many requests.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.crashing import Crashing
from benchmarks.load.server import Server, StandIn
from benchmarks.load.world import ATTACKED, OTHER, World
from benchmarks.operators import set_mode
from benchmarks.process_tree import children_by_parent, forked, megabytes
from benchmarks.rows import Row
from benchmarks.waiting import wait_until
from meshfold.commands import console
from meshfold.tools.bench_calls import RETRIEVE, Calls, Phase, Stream, quantile, send

STATES = ("healthy", "dead", "hanging", "slow", "crashing")
SLOW_S = 0.5
HALF_LOAD_SHARE = 0.05
DEADLINE_S = 5.0
_MEMORY_RATE_HZ = 200.0
_MEMORY_LOOKS = 12


@dataclass(frozen=True)
class Plan:
    """blocks: of each kind. block_s: of one. rate_hz: of calls where the load is not half."""

    blocks: int
    block_s: float
    rate_hz: float


class Servers:
    """compared, plain: in front of the mesh, with comparison on and off."""

    def __init__(self, world: World, mesh: StandIn, work: Path, share: float = 1.0) -> None:
        self._seed = 0
        work.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(work / "pairs", ignore_errors=True)
        self.servers: dict[str, Server] = {}
        for name in ("compared", "plain"):
            state = work / f"{name}.json"
            state.unlink(missing_ok=True)
            flags = ["--mesh", mesh.address, "--migration-state", str(state)]
            if name == "compared":
                flags += ["--comparison-on", "true", "--comparison-folder", str(work / "pairs")]
                flags += ["--comparison-share", str(share), "--comparison-bytes", str(64 << 20)]
            self.servers[name] = Server(world.store, work / f"{name}.log", *flags)

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop()

    def mode(self, surface: str, mode: str) -> None:
        for server in self.servers.values():
            set_mode(server.admin_address, surface, mode, who="mirror")

    def calls(self, name: str, messages: Path, phase: Phase) -> Calls:
        """Calls of one block at one server."""
        self._seed += 1
        stream = Stream("caller", self.servers[name].address, RETRIEVE, messages, [phase])
        return send([stream], self._seed)[0]["caller"]

    def cores(self, name: str, messages: Path, phase: Phase) -> float:
        """Cores that a server takes for a load."""
        server = self.servers[name]
        cpu_s, start_s = server.resources().cpu_s, time.monotonic()
        self.calls(name, messages, phase)
        return (server.resources().cpu_s - cpu_s) / (time.monotonic() - start_s)

    def value(self, name: str, metric: str) -> float:
        """A metric's values, added; 0 where there are none."""
        return sum(sample.value for sample in self.servers[name].samples(metric))

    def counts(self, name: str, metric: str) -> bool:
        """Whether a metric is above 0."""
        return self.value(name, metric) > 0


@contextmanager
def _running(world: World, mesh: StandIn, work: Path, share: float = 1.0) -> Iterator[Servers]:
    servers = Servers(world, mesh, work, share)
    try:
        # The comparing process, whose imports would otherwise be measured.
        wait_until(
            partial(servers.counts, "compared", "meshfold_comparison_starts_total"),
            "no comparing process starts",
        )
        time.sleep(3.0)
        yield servers
    finally:
        servers.stop()


def states(world: World, mesh: StandIn, work: Path, plan: Plan) -> tuple[list[Row], dict[str, Any]]:
    """Rows by server and state, and the figures of the last line."""
    blocks: dict[tuple[str, str], list[Calls]] = {}
    phase = Phase(plan.rate_hz, plan.block_s, DEADLINE_S)
    with _running(world, mesh, work) as servers:
        servers.mode(ATTACKED, "serve")
        for name in servers.servers:
            servers.calls(name, world.heavy, phase)
        with console.progress() as progress:
            for number in range(plan.blocks):
                order = STATES if number % 2 else STATES[::-1]
                for place, state in enumerate(order):
                    with _state(mesh, servers, state):
                        for name in list(servers.servers)[:: 1 if (number + place) % 2 else -1]:
                            blocks.setdefault((name, state), []).append(
                                servers.calls(name, world.heavy, phase)
                            )
                progress("states of the shadow", number + 1, plan.blocks)
        dropped = servers.value("compared", "meshfold_comparison_dropped_total")
        pairs = servers.value("compared", "meshfold_comparison_pairs_total")
    config = {**_config(plan), "slow_s": SLOW_S}
    rows = [_row(f"{name}, {state}", calls, config) for (name, state), calls in sorted(blocks.items())]
    p99_ms = {case: _pooled(calls, 0.99) for case, calls in blocks.items()}
    figures = {
        "name": "mirror_states",
        "worst_on_off": round(max(p99_ms["compared", s] / p99_ms["plain", s] for s in STATES), 3),
        "worst_state": round(max(p99_ms["compared", s] / p99_ms["compared", "healthy"] for s in STATES), 3),
        "failed": sum(int(row.figures["failed"]) for row in rows),
        "pairs": int(pairs),
        "dropped": int(dropped),
    }
    return rows, figures


def half_load(world: World, mesh: StandIn, work: Path, plan: Plan) -> tuple[list[Row], dict[str, Any]]:
    """At the rate at which the server takes half of two cores. Rows by server, and the figures of the last line."""
    with _running(world, mesh, work, HALF_LOAD_SHARE) as servers:
        servers.mode(ATTACKED, "mirror")
        probe = Phase(plan.rate_hz, plan.block_s, DEADLINE_S)
        servers.calls("plain", world.heavy, probe)
        cores = servers.cores("plain", world.heavy, probe)
        rate_hz = plan.rate_hz / cores
        phase = Phase(rate_hz, plan.block_s, DEADLINE_S)
        blocks: dict[str, list[Calls]] = {name: [] for name in servers.servers}
        with console.progress() as progress:
            for number in range(plan.blocks):
                for name in list(blocks)[:: 1 if number % 2 else -1]:
                    blocks[name].append(servers.calls(name, world.heavy, phase))
                progress("half load", number + 1, plan.blocks)
        pairs = servers.value("compared", "meshfold_comparison_pairs_total")
    config = {**_config(plan), "rate_hz": rate_hz, "share": HALF_LOAD_SHARE}
    rows = [_row(f"half load, {name}", calls, config) for name, calls in blocks.items()]
    ratios = {
        share: float(
            np.median(
                [
                    quantile(a.latency_ms, share) / quantile(b.latency_ms, share)
                    for a, b in zip(blocks["compared"], blocks["plain"], strict=True)
                ]
            )
        )
        for share in (0.5, 0.99)
    }
    figures = {
        "name": "comparison_cost",
        "rate_hz": round(rate_hz, 1),
        "p50_ratio": round(ratios[0.5], 3),
        "p99_ratio": round(ratios[0.99], 3),
        "failed": sum(int(row.figures["failed"]) for row in rows),
        "pairs": int(pairs),
    }
    return rows, figures


def memory(world: World, mesh: StandIn, work: Path, requests: int) -> tuple[list[Row], dict[str, Any]]:
    """Memory of both servers and the comparing process. requests: to each server.

    Grown is the median of the last third of the looks minus that of the second third: imports and the first files come
    in the first.
    """
    with _running(world, mesh, work) as servers:
        servers.mode(OTHER, "mirror")
        compared, plain = (servers.servers[name].pid for name in ("compared", "plain"))
        pids = {"server": compared, "worker": _child_of(compared), "plain": plain}
        phase = Phase(_MEMORY_RATE_HZ, requests / _MEMORY_LOOKS / _MEMORY_RATE_HZ, DEADLINE_S)
        looks: dict[str, list[float]] = {name: [] for name in pids}
        failed = 0
        with console.progress() as progress:
            for look in range(_MEMORY_LOOKS):
                for name in servers.servers:
                    failed += int((~servers.calls(name, world.light, phase).ok).sum())
                for name, pid in pids.items():
                    looks[name].append(megabytes(pid, "status", "RssAnon"))
                progress("memory", look + 1, _MEMORY_LOOKS)
        pairs = servers.value("compared", "meshfold_comparison_pairs_total")
    third = _MEMORY_LOOKS // 3
    grown = {
        f"{name}_grown_mb": float(np.median(mb[-third:]) - np.median(mb[third : 2 * third]))
        for name, mb in looks.items()
    }
    figures = {
        "requests": requests,
        "failed": failed,
        "pairs": pairs,
        **{f"{name}_mb": mb[-1] for name, mb in looks.items()},
        **grown,
    }
    told = {
        "name": "comparison_memory",
        "requests": requests,
        "failed": failed,
        "pairs": int(pairs),
        **{name: round(mb, 1) for name, mb in grown.items()},
    }
    return [Row("mirror", "memory", {"rate_hz": _MEMORY_RATE_HZ}, figures)], told


@contextmanager
def _state(mesh: StandIn, servers: Servers, state: str) -> Iterator[None]:
    """The mesh in a state; healthy and connected again behind the block."""
    if state == "slow":
        mesh.answer(SLOW_S, mesh.results)
    elif state == "hanging":
        mesh.popen.send_signal(signal.SIGSTOP)
    elif state in ("dead", "crashing"):
        mesh.popen.kill()
        mesh.popen.wait()
    try:
        if state == "crashing":
            with Crashing(mesh.address):
                yield
        else:
            yield
    finally:
        if state == "hanging":
            mesh.popen.send_signal(signal.SIGCONT)
        elif state == "slow":
            mesh.answer(0.0, mesh.results)
        elif state in ("dead", "crashing"):
            mesh.revive()
        if state != "healthy":
            for name in servers.servers:
                wait_until(
                    partial(servers.counts, name, "meshfold_mesh_connected"),
                    f"{name}: no connection to the mesh",
                )


def _child_of(pid: int) -> int:
    """The comparing process: the server's child that is no fork."""
    (child,) = set(children_by_parent()[pid]) - set(forked(pid))
    return child


def _pooled(calls: Sequence[Calls], share: float) -> float:
    return quantile(np.concatenate([one.latency_ms for one in calls]), share)


def _config(plan: Plan) -> dict[str, Any]:
    return {"rate_hz": plan.rate_hz, "blocks": plan.blocks, "block_s": plan.block_s}


def _row(case: str, calls: Sequence[Calls], config: Mapping[str, Any]) -> Row:
    figures = {
        "calls": sum(len(one) for one in calls),
        "failed": sum(int((~one.ok).sum()) for one in calls),
        **{
            f"{name}_ms": _pooled(calls, share)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
        "max_ms": _pooled(calls, 1.0),
    }
    return Row("mirror", case, dict(config), figures)
