"""From a call to its answer: what the model answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshfold.model.errors import DeadlineExceeded
from meshfold.model.limits import Limits
from meshfold.service.call import Call
from meshfold.service.request_sample import RequestSample
from meshfold.service.work import ALL_FIELDS, Adapter, Work

if TYPE_CHECKING:
    from meshfold.service.scheduler import Scheduler
    from meshfold.service.versions import Versions

__all__ = ["ALL_FIELDS", "Adapter", "Handler"]


class Handler:
    """The Answer of one call of a protocol."""

    def __init__(
        self,
        adapter: Adapter[Any, Any],
        versions: Versions,
        scheduler: Scheduler,
        limits: Limits,
        sample: RequestSample | None = None,
    ) -> None:
        """sample: is told of every request."""
        self._adapter = adapter
        self._versions = versions
        self._scheduler = scheduler
        self._limits = limits
        self._sample = sample

    async def __call__(self, call: Call) -> bytes:
        size = await self._scheduler.measure(self._adapter, call.message, self._limits)
        runner = self._versions.runner(size.surface)
        if self._sample is not None:
            self._sample.saw(runner.surface, self._adapter, call.message)
        try:
            return await self._scheduler.run(Work(self._adapter, runner, self._limits), size, call)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the answer was ready") from None
