"""From the bytes of requests to the bytes of answers, on a worker's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from meshfold.model.errors import InvalidQuery
from meshfold.model.limits import Limits, check
from meshfold.model.schema import Schema
from meshfold.model.stages import Abandoned, abandoned_when
from meshfold.model.types import EmbedQuery, Query, RequestSize, ScoreQuery, SearchQuery
from meshfold.service.errors import log_failure
from meshfold.service.lane import Ticket
from meshfold.service.service_times import Expected, ServiceTimes

Q = TypeVar("Q")
A = TypeVar("A", contravariant=True)

# In Query.fields: every field of the surface.
ALL_FIELDS = "*"


class Adapter(Protocol[Q, A]):
    """One method of a protocol. METHOD: its full name, /package.Service/Method."""

    @property
    def METHOD(self) -> str: ...

    def measure(self, message: bytes, limits: Limits, /) -> RequestSize:
        """The request's size, counted before anything is parsed. Raises InvalidQuery where it exceeds a limit."""

    def decode(self, message: bytes, /) -> Q:
        """Raises InvalidQuery."""

    def path(self, query: Q, path: str, /) -> str:
        """Translates the path of a part of the query into a path of fields of the request."""

    def encode(self, query: Q, answer: A, /) -> bytes: ...


@dataclass(frozen=True)
class Work:
    """The adapter, runner and limits of a request. Equal for requests that may run in one batch."""

    adapter: Any
    runner: Any
    limits: Limits


@dataclass(eq=False)
class Request:
    """A request in a lane.

    answer: resolved on the loop. kind, price_s: see ServiceTimes. query: the decoded message; None for a worker to
    decode it. more_bytes: memory of the query besides the message. left: whether the caller has left. abandon: ends the
    forward pass; None where the pass itself checks is_wanted().
    """

    work: Work
    message: bytes
    flow: Hashable
    kind: Hashable
    price_s: float
    expected: Expected
    deadline_s: float
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[bytes]
    weight: float = 1.0
    left: bool = False
    query: Any = None
    more_bytes: int = 0
    is_background: bool = False
    abandon: Callable[[], None] | None = None

    @property
    def batch(self) -> Hashable:
        return self.work

    @property
    def size_bytes(self) -> int:
        return len(self.message) + self.more_bytes

    def is_wanted(self) -> bool:
        return not self.left

    def leave(self) -> None:
        """Records that the caller has left, and abandons the forward pass."""
        self.left = True
        if self.abandon is not None:
            self.abandon()

    def started(self, abandon: Callable[[], None]) -> None:
        self.abandon = abandon
        # The caller may have left before the pass started.
        if self.left:
            abandon()

    def succeed(self, message: bytes) -> None:
        self._resolve(partial(_set_result, self.answer, message))

    def fail(self, error: Exception) -> None:
        self._resolve(partial(_set_exception, self.answer, error))

    def _resolve(self, resolve: Callable[[], None]) -> None:
        # A closed loop has no callers to answer.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(resolve)


def answer(
    times: ServiceTimes, clock: Callable[[], float], batch: Sequence[Ticket], is_alone: bool = False
) -> None:
    """Resolves every request of a batch in this process. A request that fails fails alone."""
    requests: list[Request] = list(batch)  # type: ignore[arg-type]
    start_s = clock()
    ran = [done for group in _prepared(requests) for done in _run(group)]
    took_s = clock() - start_s
    whole_s = sum(request.price_s for request, _ in ran)
    for request, is_whole in ran:
        share_s = took_s * request.price_s / whole_s
        # An abandoned pass would have taken longer, so that a shorter time than expected is no measurement.
        least_s = 0.0 if is_whole else request.expected.mean_s
        times.observe(request.kind, request.price_s, max(share_s, least_s))


def run_alone(work: Work, message: bytes, query: Any = None) -> bytes:
    """Answers one request without a queue. query: the decoded message; None to decode it here.

    Raises the errors of preparing and running the request.
    """
    query, prepared = _prepare(work, message, query)
    (result,) = _calls(work.runner, query)[1]([prepared])
    encoded: bytes = work.adapter.encode(query, result)
    return encoded


@dataclass(eq=False)
class _Prepared:
    request: Request
    query: Any
    prepared: Any


def _prepared(requests: Sequence[Request]) -> list[list[_Prepared]]:
    """The valid requests, grouped by plan; fails the others."""
    by_plan: dict[Hashable, list[_Prepared]] = {}
    for request in requests:
        try:
            query, prepared = _prepare(request.work, request.message, request.query)
        except Exception as error:
            request.fail(error)
        else:
            by_plan.setdefault(getattr(prepared, "plan", None), []).append(
                _Prepared(request, query, prepared)
            )
    return list(by_plan.values())


def _prepare(work: Work, message: bytes, query: Any = None) -> tuple[Any, Any]:
    """(decoded query, prepared query). query: None to decode the message here. Raises InvalidQuery with the path in the
    request, UnknownName."""
    if query is None:
        query = work.adapter.decode(message)
    try:
        check(query, work.limits)
        query = _with_fields(query, work.runner.schema)
        return query, _calls(work.runner, query)[0](query)
    except InvalidQuery as error:
        raise InvalidQuery(work.adapter.path(query, error.path), error.message) from None


def _run(group: Sequence[_Prepared]) -> list[tuple[Request, bool]]:
    """Runs a group; returns each request that ran, and whether to its end. A group that fails runs again, one
    request at a time."""
    group = [one for one in group if one.request.is_wanted()]
    if not group:
        return []
    first = group[0]
    run = _calls(first.request.work.runner, first.query)[1]

    def is_abandoned() -> bool:
        return not any(one.request.is_wanted() for one in group)

    try:
        with abandoned_when(is_abandoned):
            results = run([one.prepared for one in group])
        if len(results) != len(group):
            raise RuntimeError(f"{len(results)} results for {len(group)} queries")
    except Abandoned:
        return [(one.request, False) for one in group]
    except Exception as error:
        if len(group) == 1:
            first.request.fail(error)
            return []
        log_failure(f"a batch of {len(group)} failed and runs again one by one", error)
        return [done for one in group for done in _run([one])]
    ran = []
    for one, result in zip(group, results, strict=True):
        if not one.request.is_wanted():
            ran.append((one.request, False))
            continue
        try:
            one.request.succeed(one.request.work.adapter.encode(one.query, result))
        except Exception as error:
            one.request.fail(error)
        else:
            ran.append((one.request, True))
    return ran


def _calls(runner: Any, query: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The runner's functions for a kind of query: (prepare one query, run a batch of prepared queries)."""
    match query:
        case Query():
            return runner.prepare, runner.run
        case EmbedQuery():
            return runner.prepare_embed, runner.embed
        case SearchQuery():
            return runner.prepare_search, runner.search
        case ScoreQuery():
            return runner.prepare_score, runner.score
    raise TypeError(f"no call answers a {type(query).__name__}")


def _with_fields(query: Any, schema: Schema) -> Any:
    if not isinstance(query, Query) or ALL_FIELDS not in query.fields:
        return query
    return replace(query, fields=tuple(f.name for f in schema.fields))


def _set_result(answer: asyncio.Future[bytes], message: bytes) -> None:
    if not answer.done():
        answer.set_result(message)


def _set_exception(answer: asyncio.Future[bytes], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
