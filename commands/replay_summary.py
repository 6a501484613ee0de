"""The summary of a replay, as a table and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meshfold.commands import console

if TYPE_CHECKING:
    from meshfold.compat.shadow.pairs import Pair, SideAnswer


@dataclass
class ServerAnswers:
    """The answers of one server. latencies_ms: of OK answers."""

    address: str
    statuses: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)

    def add(self, answer: SideAnswer) -> None:
        self.statuses[answer.status] += 1
        if answer.status == "OK":
            self.latencies_ms.append(answer.latency_ms)

    @property
    def failed(self) -> Mapping[str, int]:
        return {status: count for status, count in sorted(self.statuses.items()) if status != "OK"}

    def latency_ms(self, percent: float) -> float | None:
        """A percentile of latency; None without answers."""
        if not self.latencies_ms:
            return None
        return round(float(np.percentile(self.latencies_ms, percent)), 3)


@dataclass
class ReplaySummary:
    """The summary of a replay. servers: by side. requests: number of requests sent. late: number of them that started
    late. out: folder of the pairs."""

    servers: Mapping[str, ServerAnswers]
    out: Path | None
    pairs: int = 0
    asked_again: int = 0
    requests: int = 0
    late: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def add(self, pair: Pair) -> None:
        self.pairs += 1
        self.asked_again += pair.again is not None
        for side, server in self.servers.items():
            server.add(getattr(pair, side))

    def show(self) -> None:
        rows = []
        for side, server in self.servers.items():
            times = [
                "" if ms is None else f"{ms:.1f}" for ms in (server.latency_ms(50), server.latency_ms(99))
            ]
            rows.append([side, server.address, server.statuses["OK"], sum(server.failed.values()), *times])
        console.table(["side", "server", "answers", "failed", "p50 ms", "p99 ms"], rows)
        for side, server in self.servers.items():
            if server.failed:
                named = ", ".join(f"{count} {status}" for status, count in server.failed.items())
                console.print(f"{side} failed: {named}")
        kept = f" in {self.out}" if self.out else ""
        again = f", of {self.asked_again} the mesh was asked again" if self.asked_again else ""
        late = f"; {self.late} of {self.requests} requests started late" if self.late else ""
        console.print(f"{self.pairs} pairs{kept}{again}{late}")
        for note in self.notes:
            console.print(note)

    def show_json(self) -> None:
        told = {
            "requests": self.requests,
            "late": self.late,
            "pairs": self.pairs,
            "asked_again": self.asked_again,
            "sides": {
                side: {
                    "address": server.address,
                    "statuses": dict(sorted(server.statuses.items())),
                    "p50_ms": server.latency_ms(50),
                    "p99_ms": server.latency_ms(99),
                }
                for side, server in self.servers.items()
            },
            "skipped": dict(self.skipped),
            "out": str(self.out) if self.out else None,
        }
        console.print(json.dumps(told, ensure_ascii=False, indent=1))
