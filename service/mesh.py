"""The services of a reference mesh as servers: what they are is handed over by the entry point."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from meshfold.model.errors import InvalidConfig, InvalidQuery, Overloaded
from meshfold.model.limits import Limits, check
from meshfold.service.call import Call
from meshfold.service.config import ServerConfig
from meshfold.service.handlers import Adapter
from meshfold.service.ports import NO_ADDRESS
from meshfold.service.shares import Shares

if TYPE_CHECKING:
    from meshfold.service.scheduler import Scheduler
    from meshfold.service.server import Server
    from meshfold.service.versions import Versions

# Users that a tower computes together.
_TOWER_BATCH = 32
# Calls that an orchestrator has on their way, and those that wait besides.
_FAN_OUT_THREADS, _FAN_OUT_WAITING = 192, 512

ORCHESTRATOR, TOWER, RETRIEVAL, SCORING = "orchestrator", "tower", "retrieval", "scoring"
# In the order in which they are started: the orchestrator asks the others.
SERVICES = (TOWER, RETRIEVAL, SCORING, ORCHESTRATOR)

# An adapter, and (folder, surface) -> what answers for a snapshot.
Service = tuple[Adapter[Any, Any], Callable[[Path, str], Any]]


class Mesh(Protocol):
    """What the entry point hands over: compat/mesh/services.py says what each takes."""

    def tower(self, threads: int) -> Service: ...

    def retrieval(self, threads: int, indices: Path, candidates: int, exact: bool) -> Service: ...

    def scoring(self, threads: int) -> Service: ...

    def orchestrator(
        self, tower: str, retrieval: str, scoring: str, timeout_s: float, candidates: int
    ) -> Service: ...


@dataclass(frozen=True)
class MeshConfig:
    """surface: the only one to serve; "" for all of the store. threads: of one operation. workers: batches at once, of
    each service behind the orchestrator.

    candidates: to find and score; 0 for as many as the model does on a CPU. exact: a search compares every vector.
    indices: folder of Faiss's files. tower, retrieval, scoring: addresses that the orchestrator asks; timeout_s: for
    the answer of each.
    """

    surface: str = ""
    threads: int = 1
    workers: int = 1
    candidates: int = 0
    exact: bool = False
    indices: Path = Path(".meshfold/mesh")
    tower: str = ""
    retrieval: str = ""
    scoring: str = ""
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        for name, low in (("threads", 1), ("workers", 1), ("candidates", 0)):
            if getattr(self, name) < low:
                raise InvalidConfig(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not 0 < self.timeout_s < 86_400:
            raise InvalidConfig(f"timeout_s must be above 0 and below a day, got {self.timeout_s}")


def mesh_server(service: str, config: ServerConfig, of: MeshConfig, mesh: Mesh) -> Server:
    """One of SERVICES. Raises InvalidConfig where its address cannot be listened on, or a package is missing."""
    from meshfold.service.server import Server

    config = replace(config, admin_address=NO_ADDRESS)
    match service:
        case "orchestrator":
            adapter, open_ = mesh.orchestrator(
                of.tower, of.retrieval, of.scoring, of.timeout_s, of.candidates
            )
            return Server(
                config, (adapter,), open_runner=open_, handler=FanOutHandler, surface=of.surface, workers=1
            )
        case "tower":
            adapter, open_ = mesh.tower(of.threads)
        case "retrieval":
            adapter, open_ = mesh.retrieval(of.threads, of.indices, of.candidates, of.exact)
        case _:
            adapter, open_ = mesh.scoring(of.threads)
    config = replace(
        config,
        limits=_behind(config.limits),
        # A batch is answered when its last is. A tower computes users together; a search and an OverArch compute one
        # after the other whatever the company, so that company would only make the first wait.
        max_batch=_TOWER_BATCH if service == TOWER else 1,
    )
    return Server(config, (adapter,), open_runner=open_, surface=of.surface, workers=of.workers)


class FanOutHandler:
    """Answers a call by way of other services, on a thread that waits for them.

    adapter: decodes to something with a `query`. Its runners have retrieve(asked, deadline_s, is_active) -> bytes.
    """

    def __init__(
        self, adapter: Adapter[Any, Any], versions: Versions, scheduler: Scheduler, limits: Limits
    ) -> None:
        del scheduler
        self._adapter = adapter
        self._versions = versions
        self._limits = limits
        self._threads = ThreadPoolExecutor(_FAN_OUT_THREADS, "meshfold-fan-out")
        self._waiting = Shares(_FAN_OUT_WAITING)

    async def __call__(self, call: Call) -> bytes:
        refusal = Overloaded(f"{self._waiting.used} requests wait already; try again later")
        left = threading.Event()
        with self._waiting.held(call.peer, refusal):
            try:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, self._answer, call, left)
            finally:
                left.set()

    def _answer(self, call: Call, left: threading.Event) -> bytes:
        self._adapter.measure(call.message, self._limits)
        asked = self._adapter.decode(call.message)
        try:
            check(asked.query, self._limits)
        except InvalidQuery as error:
            raise InvalidQuery(self._adapter.path(asked, error.path), error.message) from None
        runner: Any = self._versions.runner(asked.query.surface)
        deadline_s = call.deadline_s if call.has_deadline else math.inf
        answer: bytes = runner.retrieve(asked, deadline_s, lambda: not left.is_set())
        return answer


def _behind(limits: Limits) -> Limits:
    """The limits of services that an orchestrator asks, which take whatever it took: more candidates than results, the
    history beside the excluded items, and the tower's vectors as one more feature."""
    most = max(limits.max_results + limits.max_results // 4, limits.max_item_ids)
    return replace(
        limits,
        max_results=most,
        max_item_ids=most,
        max_excluded=limits.max_excluded + limits.max_history,
        max_features=limits.max_features + 1,
    )
