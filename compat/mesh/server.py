"""The gRPC server of one service of the mesh, around one store of snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from meshfold.compat.mesh.fan_out import FanOut
from meshfold.compat.mesh.services import OF_NAME
from meshfold.compat.mesh.settings import ORCHESTRATOR, TOWER, MeshConfig
from meshfold.model.errors import MeshfoldError
from meshfold.model.limits import Limits
from meshfold.model.store import Store
from meshfold.service.call import Answer
from meshfold.service.config import ServerConfig
from meshfold.service.handlers import Handler
from meshfold.service.lane import LaneLimits
from meshfold.service.listener import Listener
from meshfold.service.ports import NO_ADDRESS
from meshfold.service.samples import server_samples
from meshfold.service.scheduler import Scheduler
from meshfold.service.versions import Versions

# Most users in a batch of the tower.
_TOWER_BATCH = 32


class MeshServer:
    """Binds its ports when it is made; answers from start() to stop()."""

    def __init__(self, name: str, config: ServerConfig, of: MeshConfig) -> None:
        """name: one of SERVICES. Raises InvalidConfig where an address cannot be bound, or a package is missing."""
        service = OF_NAME[name](of)
        self._listener = Listener(replace(config, admin_address=NO_ADDRESS), lambda: bool(self.runners))
        self._scheduler = Scheduler(
            1 if name == ORCHESTRATOR else of.workers,
            # Only the tower computes users together. A search and an OverArch compute one request after the other, so
            # that a batch would only delay the first answer.
            _TOWER_BATCH if name == TOWER else 1,
            LaneLimits(config.queue_limit, config.queue_bytes, config.queue_s),
            partial(torch.set_num_threads, torch.get_num_threads()),
        )
        self._versions = Versions(
            Store(config.store, only=of.surface), service.open, config.poll_interval_s, self._listener.changed
        )
        answer: Answer
        if name == ORCHESTRATOR:
            answer = FanOut(service.adapter, self._versions, self._scheduler, config.limits)
        else:
            answer = Handler(service.adapter, self._versions, self._scheduler, _behind(config.limits))
        if (metrics := self._listener.metrics) is not None:
            metrics.ask(partial(server_samples, self._versions, self._scheduler, self._listener.intake))
        try:
            self._listener.listen({service.adapter.METHOD: answer})
        except MeshfoldError:
            self._listener.close(self._end)
            raise

    @property
    def address(self) -> str:
        return self._listener.address

    @property
    def metrics_address(self) -> str:
        return self._listener.metrics_address

    @property
    def runners(self) -> Mapping[str, Any]:
        """The active runners by surface."""
        return self._versions.runners

    def start(self) -> None:
        """Loads the published snapshots, then answers."""
        self._listener.start(self._versions.start)
        self._watch = asyncio.run_coroutine_threadsafe(self._scheduler.watch(), self._listener.loop)

    def stop(self) -> None:
        """Within the grace directs callers to other servers and ends the calls in flight; then cancels the rest."""
        self._listener.stop(self._scheduler.quiet_s, self._end)

    def _end(self, left_s: Callable[[], float]) -> None:
        self._scheduler.stop(left_s())
        self._versions.stop(left_s())


def _behind(limits: Limits) -> Limits:
    """The limits of services behind an orchestrator, which must accept what it accepted: more candidates than results,
    the history besides the excluded items, and the tower's vectors as one more feature."""
    most = max(limits.max_results + limits.max_results // 4, limits.max_item_ids)
    return replace(
        limits,
        max_results=most,
        max_item_ids=most,
        max_excluded=limits.max_excluded + limits.max_history,
        max_features=limits.max_features + 1,
    )
