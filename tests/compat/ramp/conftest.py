"""A server in front of a mesh, a plan for it, and pairs as its comparison would write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.ramp.audit_log import AuditEntry, AuditLog
from meshfold.compat.ramp.plan import read_plan
from meshfold.compat.ramp.ramp import Ramp
from meshfold.compat.ramp.status import Status
from meshfold.compat.shadow.pair_writer import PairWriter
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.service.comparison import ComparisonConfig
from meshfold.service.server import Server
from tests.compat.migration.conftest import ToldMesh, mesh, publish_items, seen, start, store

__all__ = ["ToldMesh", "mesh", "publish_items", "seen", "start", "store"]

SURFACE = "shop"
COMPARED = ComparisonConfig(on=True, canary_share=1.0, noise_share=1.0, keep_requests=True)
# It says yes or no of few pairs.
GATE = """
[gate]
margin = 0.2
error_rate = 0.1
min_users = 20
causes_stop = 0.9
causes_pass = 0.95
exposure_share = 0.99
errors_stop = 0.01
errors_pass = 0.5
p99_stop_ms = inf
"""


@dataclass
class World:
    """A plan's folder, its server, and a clock that only `look` moves."""

    folder: Path
    server: Server
    store: Path
    version: str
    settings: dict[str, Any]
    now_ms: int = 1_760_000_000_000
    _count: int = 0
    _ramps: list[Ramp] = field(default_factory=list)

    @property
    def plan(self) -> Path:
        lines = {
            "servers": [self.server.admin_address],
            "surfaces": [SURFACE],
            "pairs": ["pairs"],
            "store": str(self.store),
            "steps": ["mirror", "canary 5", "serve"],
            "hold_s": 0,
            "state": "ramp.json",
            **self.settings,
        }
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())
        path = self.folder / "plan.toml"
        path.write_text(text + GATE)
        return path

    def ramp(self) -> Ramp:
        """One that has begun, or goes on where an earlier one ended."""
        ramp = Ramp(read_plan(self.plan), lambda: self.now_ms)
        self._ramps.append(ramp)
        ramp.begin("a test")
        return ramp

    def pairs(self, count: int = 200, shared: int = 10, version: str = "", side: str = "mesh") -> list[Pair]:
        """Of as many users. shared: of ten items, those of both answers. side: whose answer the callers got."""
        made = []
        for _ in range(count):
            self._count += 1
            items = tuple(range(10, 20))
            made.append(
                Pair(
                    f"request {self._count}",
                    SURFACE,
                    f"user {self._count}",
                    self.now_ms,
                    mesh=SideAnswer(items, latency_ms=5.0),
                    model=SideAnswer(
                        items[:shared] + tuple(range(30, 40 - shared)),
                        latency_ms=4.0,
                        version=version or self.version,
                    ),
                    again=SideAnswer(items, latency_ms=5.0),
                    served_by=side,
                    max_results=10,
                    filter="",
                )
            )
        return made

    def write(self, pairs: list[Pair]) -> None:
        writer = PairWriter(self.folder / "pairs", redaction=lambda pair: pair)
        for pair in pairs:
            writer.append(pair)
        writer.close()

    def look(self, ramp: Ramp, pairs: list[Pair] | None = None, **of: Any) -> Status:
        """Where the surface stands after a second, new pairs and a look at them."""
        self.now_ms += 1000
        self.write(self.pairs(**of) if pairs is None else pairs)
        ramp.look()
        return self.status(ramp)

    def until(self, ramp: Ramp, done: Callable[[Status], bool], **of: Any) -> Status:
        """Looks with new pairs each, until a status is as wanted."""
        for _ in range(30):
            status = self.look(ramp, **of)
            if done(status):
                return status
        raise AssertionError(status)

    def status(self, ramp: Ramp) -> Status:
        return ramp.states[SURFACE].status

    @property
    def mode(self) -> str:
        """That the server is in."""
        client = self.client()
        try:
            return str(client.show().modes.of(SURFACE))
        finally:
            client.close()

    def client(self) -> MigrationClient:
        return MigrationClient(self.server.admin_address)

    @property
    def log(self) -> list[AuditEntry]:
        """Oldest first."""
        return list(reversed(AuditLog(self.folder / "ramp-log.jsonl").latest(1000)))

    def close(self) -> None:
        for ramp in self._ramps:
            ramp.close()


@pytest.fixture
def world(tmp_path: Path, start: Callable[..., Server], store: Path) -> Iterator[Callable[..., World]]:
    """(comparison=settings, **what else the plan says) -> a World."""
    worlds = []

    def made(comparison: ComparisonConfig = COMPARED, **settings: Any) -> World:
        server = start(store, {"comparison": comparison_in(comparison, tmp_path / "pairs")})
        (folder, *_) = Store(store).published(SURFACE)
        one = World(tmp_path, server, store, Snapshot.open(folder, SURFACE).version, settings)
        worlds.append(one)
        return one

    yield made
    for one in worlds:
        one.close()


def comparison_in(comparison: ComparisonConfig, folder: Path) -> ComparisonConfig:
    return replace(comparison, folder=str(folder))
