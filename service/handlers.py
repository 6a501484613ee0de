"""Answers of the model: from a call, over the queue, to the answer's bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshfold.model.errors import DeadlineExceeded, InvalidQuery
from meshfold.model.limits import Limits
from meshfold.model.types import Query, RequestSize
from meshfold.service.call import Call
from meshfold.service.hydration import hydrated_size, user_bytes
from meshfold.service.request_sample import RequestSample
from meshfold.service.work import ALL_FIELDS, Adapter, Work

if TYPE_CHECKING:
    from meshfold.service.hydration import Hydrate, Hydration
    from meshfold.service.scheduler import Scheduler
    from meshfold.service.versions import Versions

__all__ = ["ALL_FIELDS", "Adapter", "Handler"]


class Handler:
    """The model's Answer for one method of a protocol."""

    def __init__(
        self,
        adapter: Adapter[Any, Any],
        versions: Versions,
        scheduler: Scheduler,
        limits: Limits,
        sample: RequestSample | None = None,
        hydration: Hydration | None = None,
    ) -> None:
        """sample: records requests to warm later snapshots with. hydration: fills in the users of queries."""
        self._adapter = adapter
        self._versions = versions
        self._scheduler = scheduler
        self._limits = limits
        self._sample = sample
        self._hydration = hydration

    async def __call__(self, call: Call) -> bytes:
        size = await self._scheduler.measure(self._adapter, call.message, self._limits)
        runner = self._versions.runner(size.surface)
        if self._sample is not None:
            self._sample.saw(runner.surface, self._adapter, call.message)
        work = Work(self._adapter, runner, self._limits)
        hydrate = self._hydration.of(runner.surface) if self._hydration is not None else None
        try:
            if hydrate is None:
                return await self._scheduler.run(work, size, call)
            return await self._hydrated(hydrate, work, size, call)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the answer was ready") from None

    async def _hydrated(self, hydrate: Hydrate, work: Work, size: RequestSize, call: Call) -> bytes:
        """Answers the request with its user filled in."""
        came = await self._scheduler.decode(self._adapter, call.message)
        query = await hydrate.hydrate(came, call.deadline_s) if isinstance(came, Query) else came
        if query is came:
            return await self._scheduler.run(work, size, call, came)
        try:
            answer = await self._scheduler.run(
                work, hydrated_size(size, query), call, query, user_bytes(query.user)
            )
        except InvalidQuery:
            # Retries the original request: where that is invalid too, the error is the caller's, else the source's.
            answer = await self._scheduler.run(work, size, call, came)
            hydrate.refused(came)
            return answer
        call.hydrated = query.user
        return answer
