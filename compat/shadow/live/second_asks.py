"""Second calls of the mesh for some pairs, to measure the mesh's own noise."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import grpc

from meshfold.compat.migration.bounded_queue import QUEUE_BYTES
from meshfold.compat.migration.methods import RETRIEVE
from meshfold.compat.migration.sides import AGAIN, SHADOW, Mesh, Request
from meshfold.compat.shadow.live.asked_pair import AskedPair
from meshfold.compat.shadow.live.budget import Budget
from meshfold.service.call import Metadata, metadata_bytes
from meshfold.service.comparison import ComparisonConfig
from meshfold.service.errors import code_of
from meshfold.service.front import Outcome, Side

_HOUR_S = 3600.0
# Fraction of the hour's budget that may be spent at once.
_BURST = 1 / 60


class SecondAsks:
    """Pairs that wait for the mesh's second answer, bounded in number and bytes. Its methods run on the loop."""

    def __init__(
        self, mesh: Mesh, config: ComparisonConfig, timeout_s: float, give: Callable[[AskedPair], None]
    ) -> None:
        """timeout_s: time limit of a second answer. give: called with each pair, which lacks the second answer where
        stop() came first."""
        self._mesh = mesh
        self._config = config
        self._timeout_s = timeout_s
        self._give = give
        self._budget = Budget(config.noise_budget / _HOUR_S, config.noise_budget * _BURST)
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0
        # Second calls by surface.
        self.asked: Counter[str] = Counter()
        # Pairs without a second call, by reason.
        self.refused: Counter[str] = Counter()

    def offer(self, pair: AskedPair, metadata: Metadata) -> bool:
        """Calls the mesh again if the budgets allow it; returns whether. metadata: the caller's, as sent to the
        mesh."""
        size = pair.size_bytes + metadata_bytes(metadata)
        if len(self._tasks) >= self._config.noise_waiting or self._bytes + size > QUEUE_BYTES:
            self.refused["waiting"] += 1
            return False
        if not self._budget.take():
            self.refused["budget"] += 1
            return False
        self._bytes += size
        task = asyncio.create_task(self._ask(pair, metadata, size))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def stop(self) -> None:
        """Passes waiting pairs on without second answers."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, pair: AskedPair, metadata: Metadata, size: int) -> None:
        outcome = None
        try:
            await asyncio.sleep(random.uniform(0, self._config.noise_delay_s))
            outcome = await self._outcome(pair, metadata)
            self.asked[pair.answered.surface] += 1
        finally:
            self._bytes -= size
            self._give(replace(pair, again=outcome))

    async def _outcome(self, pair: AskedPair, metadata: Metadata) -> Outcome:
        start_s = time.monotonic()
        request = Request(
            pair.answered.method or RETRIEVE.name,
            pair.answered.message,
            pair.answered.surface,
            (*metadata, (SHADOW, "1"), (AGAIN, "1")),
            start_s + self._timeout_s,
            is_shadow=True,
        )
        try:
            reply = await self._mesh.ask(request)
        except Exception as error:  # recorded in the pair as any other status
            return Outcome(Side.MESH, None, code_of(error), time.monotonic() - start_s)
        return Outcome(Side.MESH, reply, grpc.StatusCode.OK, time.monotonic() - start_s)
