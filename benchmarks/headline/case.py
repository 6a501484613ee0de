"""One case of the headline: both sides in turn, block by block, then both at the mesh's highest rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from benchmarks.headline.sides import MESH, Side
from meshfold.model.progress import Progress
from meshfold.tools.bench_generator import read_messages
from meshfold.tools.bench_search import Found, Search, Window, found_in, highest_rate
from meshfold.tools.bench_target import Loop, Target

# Callers that keep a server busy, each waiting for its answer.
SATURATING = 16

Sent = TypeVar("Sent", Window, Loop)


@dataclass(frozen=True)
class Lengths:
    """blocks: of each side. loop_s: of a closed loop. equal_s: of a window at equal load. callers: of further loops."""

    blocks: int = 2
    warm_s: float = 3.0
    loop_s: float = 8.0
    equal_s: float = 15.0
    search: Search = Search(first_hz=5.0, least_calls=120, longest_s=10.0)
    callers: tuple[int, ...] = (1,)


SMALL = Lengths(
    1, 0.5, 1.0, 1.0, Search(first_hz=20.0, most_hz=120.0, window_s=0.6, least_calls=10, bisections=1)
)


@dataclass(eq=False)
class Measured:
    """Measurements of one side. cpu_ms: processor time a call of all its processes, by kind of window or loop.
    others_cores: processors of everything else on the machine, less the generator, over all windows."""

    windows: list[Window] = field(default_factory=list)
    loops: dict[int, list[Loop]] = field(default_factory=lambda: defaultdict(list))
    equal: list[Window] = field(default_factory=list)
    cpu_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    others_cores: list[float] = field(default_factory=list)
    between_bytes: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    memory_mb: float = 0.0

    @property
    def found(self) -> Found:
        """The highest rate over all blocks."""
        return found_in(self.windows)

    def figures(self) -> dict[str, float]:
        found, busy, equal = self.found, self.loops[SATURATING], self.equal
        calls = sum(window.calls for window in self.windows)
        sent = sum(window.generator_cores * window.seconds for window in self.windows)
        told = {
            "rate_hz": found.rate_hz,
            "rate_low_hz": found.low_hz,
            "rate_high_hz": found.high_hz,
            "windows": len(self.windows),
            "generator_late_windows": found.generator_was_late,
            "saturated_hz": median(loop.rate_hz for loop in busy),
            "cpu_ms": median(self.cpu_ms["saturated"]),
            "equal_hz": equal[0].rate_hz,
            "equal_p50_ms": median(window.p50_ms for window in equal),
            "equal_p99_ms": median(window.p99_ms for window in equal),
            "equal_cpu_ms": median(self.cpu_ms["equal"]),
            "generator_cpu_ms": 1000 * sent / max(calls, 1),
            "failed": sum(w.failed for w in equal) + sum(loop.failed for loop in busy),
            "answer_bytes": median(loop.answer_bytes for loop in busy),
            "between_bytes": median(self.between_bytes or [0.0]),
            "peak_mb": self.peak_mb,
            "memory_mb": self.memory_mb,
            "others_cores": median(self.others_cores),
        }
        for callers, loops in self.loops.items():
            told[f"callers_{callers}_hz"] = median(loop.rate_hz for loop in loops)
            told[f"callers_{callers}_p50_ms"] = median(loop.p50_ms for loop in loops)
            told[f"callers_{callers}_p99_ms"] = median(loop.p99_ms for loop in loops)
        return told


def measure(
    sides: Mapping[str, Side], messages: Path, limit_ms: float, lengths: Lengths, progress: Progress
) -> dict[str, Measured]:
    """Figures of both sides, by name."""
    measured = {name: Measured() for name in sides}
    targets = {name: side.target(messages, limit_ms) for name, side in sides.items()}
    total = 2 * lengths.blocks * len(sides)
    for block in range(lengths.blocks):
        for place, (name, side) in enumerate(sides.items()):
            progress("blocks", block * len(sides) + place, total)
            with side.running():
                _block(side, targets[name], measured[name], lengths)
    equal_hz = measured[MESH].found.rate_hz or lengths.search.first_hz
    for block in range(lengths.blocks):
        for place, (name, side) in enumerate(sides.items()):
            progress("blocks", total // 2 + block * len(sides) + place, total)
            with side.running():
                targets[name].loop(1, lengths.warm_s / 2)
                of_side = measured[name]
                send = partial(targets[name].window, equal_hz, lengths.equal_s)
                of_side.equal.append(_noted(side, of_side, "equal", send))
    progress("blocks", total, total)
    return measured


def _block(side: Side, target: Target, of_side: Measured, lengths: Lengths) -> None:
    target.loop(4, lengths.warm_s)
    before = of_side.found.rate_hz if of_side.windows else 0.0
    # The second block begins near where the first ended.
    search = replace(lengths.search, first_hz=0.6 * before) if before else lengths.search

    def ask(rate_hz: float, seconds: float) -> Window:
        return _noted(side, of_side, "searched", lambda: target.window(rate_hz, seconds))

    of_side.windows += highest_rate(ask, search).windows
    for callers in (SATURATING, *lengths.callers):
        kind = "saturated" if callers == SATURATING else f"{callers} callers"
        send = partial(target.loop, callers, lengths.loop_s)
        of_side.loops[callers].append(_noted(side, of_side, kind, send))
    of_side.peak_mb = max(of_side.peak_mb, side.tree.peak_mb())
    of_side.memory_mb = max(of_side.memory_mb, side.tree.proportional_mb())


def _noted(side: Side, of_side: Measured, kind: str, send: Callable[[], Sent]) -> Sent:
    """Sends, and notes the cost."""
    sent = send()
    spent = side.spent
    of_side.cpu_ms[kind].append(1000 * spent.cpu_s / max(sent.answered, 1))
    others_s = spent.machine_s - spent.cpu_s - sent.generator_cores * sent.seconds
    of_side.others_cores.append(max(0.0, others_s / spent.wall_s))
    if spent.between_bytes is not None:
        of_side.between_bytes.append(spent.between_bytes / max(sent.answered, 1))
    return sent


def request_bytes(messages: Path) -> float:
    """The mean size of a request."""
    sizes = [len(message) for message in read_messages(messages)]
    return sum(sizes) / len(sizes)
