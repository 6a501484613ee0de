"""From the bytes of a call to the bytes of its answer."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc

from meshfold.model.errors import DeadlineExceeded
from meshfold.model.limits import Limits, check
from meshfold.model.schema import Schema
from meshfold.model.types import AnyQuery, EmbedQuery, Query, ScoreQuery, SearchQuery
from meshfold.service.errors import status_of

if TYPE_CHECKING:
    from meshfold.service.batcher import Batcher
    from meshfold.service.runner import Runner
    from meshfold.service.versions import Versions

Q = TypeVar("Q")
A = TypeVar("A", contravariant=True)

# In Query.fields: every field of the surface.
ALL_FIELDS = "*"

# The bytes and the context of a call -> the bytes of its answer. Raises what errors.py makes a status of.
Answer = Callable[[bytes, grpc.ServicerContext], bytes]


class Adapter(Protocol[Q, A]):
    """One call of a protocol. METHOD: its full name, /package.Service/Method."""

    @property
    def METHOD(self) -> str: ...

    def decode(self, message: bytes, /) -> Q:
        """Raises InvalidQuery."""

    def encode(self, query: Q, answer: A, /) -> bytes: ...


class Handler:
    """Answers one call of a protocol; gRPC calls it from many threads."""

    def __init__(
        self, adapter: Adapter[Any, Any], versions: Versions, batcher: Batcher, limits: Limits
    ) -> None:
        self._adapter = adapter
        self._versions = versions
        self._batcher = batcher
        self._limits = limits

    def __call__(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        self._batcher.admit()
        deadline_s = time.monotonic() + _remaining_s(context)
        query: AnyQuery = self._adapter.decode(message)
        check(query, self._limits)
        answer = self._submit(self._versions.runner(query.surface), query, deadline_s)
        if not context.add_callback(answer.cancel):
            answer.cancel()
        return self._adapter.encode(query, _wait(answer, deadline_s))

    def _submit(self, runner: Runner, query: AnyQuery, deadline_s: float) -> Future[Any]:
        submit = self._batcher.submit
        match query:
            case Query():
                query = _with_fields(query, runner.schema)
                prepared = runner.prepare(query)
                return submit(runner.run, prepared, deadline_s, prepared.plan)
            case EmbedQuery():
                return submit(runner.embed, runner.prepare_embed(query), deadline_s)
            case SearchQuery():
                return submit(runner.search, runner.prepare_search(query), deadline_s)
            case ScoreQuery():
                return submit(runner.score, runner.prepare_score(query), deadline_s)


class FanOutHandler:
    """Answers a call by way of other services, on the thread that it came by.

    adapter: decodes to something with a `query`. Its runners have retrieve(asked, deadline_s, is_active) -> bytes.
    """

    def __init__(
        self, adapter: Adapter[Any, Any], versions: Versions, batcher: Batcher, limits: Limits
    ) -> None:
        self._adapter = adapter
        self._versions = versions
        self._batcher = batcher
        self._limits = limits

    def __call__(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        self._batcher.admit()
        deadline_s = time.monotonic() + _remaining_s(context)
        asked = self._adapter.decode(message)
        check(asked.query, self._limits)
        runner: Any = self._versions.runner(asked.query.surface)
        answer: bytes = runner.retrieve(asked, deadline_s, context.is_active)
        return answer


def generic_handlers(
    answers: Mapping[str, Answer], threads: ThreadPoolExecutor | None = None
) -> list[grpc.GenericRpcHandler]:
    """Handlers of calls by full name. Bytes reach an answer as they came: it decides what they mean.

    threads: that run these answers; None for the server's.
    """
    services: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
    for full_name, answer in answers.items():
        service, method = split_method(full_name)
        call: Any = _aborting(answer)
        call.experimental_thread_pool = threads
        services.setdefault(service, {})[method] = grpc.unary_unary_rpc_method_handler(call)
    return [grpc.method_handlers_generic_handler(*methods) for methods in services.items()]


def _aborting(answer: Answer) -> Answer:
    """The answer, or its error as a status."""

    def call(message: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return answer(message, context)
        except Exception as error:
            status = status_of(error)
        context.abort(*status)
        raise AssertionError("abort always raises")

    return call


def split_method(full_name: str) -> tuple[str, str]:
    """/package.Service/Method -> (package.Service, Method)."""
    _, service, method = full_name.split("/")
    return service, method


def _with_fields(query: Query, schema: Schema) -> Query:
    if ALL_FIELDS not in query.fields:
        return query
    return replace(query, fields=tuple(f.name for f in schema.fields))


def _remaining_s(context: grpc.ServicerContext) -> float:
    """Seconds until the caller's deadline. gRPC says 9e18 for none, longer than a lock can wait."""
    remaining_s: float = context.time_remaining()
    return remaining_s if remaining_s < threading.TIMEOUT_MAX else math.inf


def _wait(answer: Future[Any], deadline_s: float) -> Any:
    try:
        return answer.result(None if deadline_s == math.inf else max(0.0, deadline_s - time.monotonic()))
    except TimeoutError:
        if answer.done():  # the runner's own
            raise
        answer.cancel()
        raise DeadlineExceeded("the deadline passed before the answer was ready") from None
