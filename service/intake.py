"""Between gRPC and answers: reads requests, sends answers, bounds what callers hold of the server meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from meshfold.model.errors import NEVER, Overloaded
from meshfold.service.call import Answer, Call
from meshfold.service.errors import retry_after_s, status_of
from meshfold.service.shares import Shares

# Milliseconds until a refused call is worth trying again, as gRPC's clients know it (gRFC A6).
PUSHBACK = "grpc-retry-pushback-ms"
# Calls without their message, of all connections, and how long a message may take to come.
_UNREAD_REQUESTS, _READ_S = 2048, 5.0
# Streams of all connections, and how long one may be idle.
_STREAMS, _IDLE_S = 256, 300.0
_STOPPING = grpc.StatusCode.UNAVAILABLE, "the server is stopping; ask another"
# Operators' calls that wait for a thread, and threads of each operation.
_OPERATIONS, _OPERATION_THREADS = 64, 2

# Blocks; bytes in, bytes out.
Operation = Callable[[bytes, Any], bytes]


@dataclass(frozen=True)
class IntakeLimits:
    """timeout_s: of a call whose caller set no deadline. held_bytes: of requests from their arrival to their answer.
    unread_bytes: of answers that callers have not read."""

    timeout_s: float
    held_bytes: int
    unread_bytes: int


class Intake:
    """Makes gRPC handlers of answers. A connection holds at most as much as is left to all others."""

    def __init__(self, limits: IntakeLimits) -> None:
        self._limits = limits
        self._requests = Shares(_UNREAD_REQUESTS)
        self._bytes = Shares(limits.held_bytes)
        self._answers = Shares(limits.unread_bytes)
        self._streams = Shares(_STREAMS)
        self._open: set[asyncio.Task[Any]] = set()
        self._calls = 0
        self._last_s = float("-inf")
        self.is_stopping = False

    def refuse(self) -> None:
        """Tells callers to ask another from now on, those of open streams too. On the loop."""
        self.is_stopping = True
        for task in self._open:
            task.cancel()

    def is_quiet(self, quiet_s: float) -> bool:
        """Whether no call is in flight, and none came for so long."""
        return not self._calls and time.monotonic() - self._last_s >= quiet_s

    def unread_bytes(self) -> int:
        """Bytes of answers that callers have not read."""
        return self._answers.used

    def unary(self, answers: Mapping[str, Answer]) -> list[grpc.GenericRpcHandler]:
        """Handlers of calls by full name, of one message each way. Bytes reach an answer as they came."""
        # On the wire a call of one message is a stream of one. Read as such, it costs nothing before it is whole.
        return _by_service(
            {
                name: grpc.stream_unary_rpc_method_handler(self._unary(answer))
                for name, answer in answers.items()
            }
        )

    def streams(self, handler: grpc.GenericRpcHandler) -> grpc.GenericRpcHandler:
        """The handler, with its streams of messages limited in number and in the time that they may be idle."""
        return _LimitedStreams(handler, self)

    def _unary(self, answer: Answer) -> Callable[[Any, Any], Any]:
        async def call(_: Any, context: Any) -> bytes:
            self._calls += 1
            self._last_s = time.monotonic()
            try:
                return await answered(context)
            finally:
                self._calls -= 1

        async def answered(context: Any) -> bytes:
            made = await self._received(context)
            refusal = Overloaded(f"{self._bytes.used} bytes of requests are held already; try again later")
            try:
                with self._bytes.held(made.peer, refusal, len(made.message)):
                    reply = await answer(made)
                self._hold(made.peer, len(reply), context)
            except Exception as error:
                await _abort(context, error, made)
            if made.initial:
                await context.send_initial_metadata(made.initial)
            if made.trailing:
                context.set_trailing_metadata(made.trailing)
            return reply

        return call

    async def _received(self, context: Any) -> Call:
        """The call once its message is there."""
        message = await self.read(context)
        left_s = context.time_remaining()
        has_deadline = left_s is not None and left_s < threading.TIMEOUT_MAX
        deadline_s = time.monotonic() + (left_s if has_deadline else self._limits.timeout_s)
        return Call(
            message, deadline_s, has_deadline, tuple(context.invocation_metadata() or ()), context.peer()
        )

    async def read(self, context: Any) -> Any:
        """The first message of a call. Ends the call where there is none in time."""
        peer = context.peer()
        if self.is_stopping:
            await context.abort(*_STOPPING)
        if not self._requests.take(peer, 1):
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._requests.used} calls wait for their message already",
            )
        try:
            async with asyncio.timeout(_READ_S):
                message = await context.read()
        except TimeoutError:
            message = None
        finally:
            self._requests.give_back(peer, 1)
        if message is None:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no message came within {_READ_S:g} s")
        if message is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "request: the call ended without a message")
        return message

    def _hold(self, peer: str, size: int, context: Any) -> None:
        """Counts an answer's bytes until the caller has them. Raises Overloaded where there is no room."""
        if size > self._answers.budget:
            raise Overloaded(
                f"the answer has {size} bytes; callers may leave {self._answers.budget} unread; ask for less",
                NEVER,
            )
        if not self._answers.take(peer, size):
            raise Overloaded(
                f"{self._answers.used} bytes of answers are not read yet, too many of them on this connection;"
                " read them first"
            )
        context.add_done_callback(lambda _: self._answers.give_back(peer, size))


class _LimitedStreams(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, handler: grpc.GenericRpcHandler, intake: Intake) -> None:
        self._handler = handler
        self._intake = intake

    def service(self, details: Any) -> Any:
        found = self._handler.service(details)
        if found is None:
            return None
        # A call that streams answers to one message is read as a stream too: its message may never come.
        return grpc.stream_stream_rpc_method_handler(
            self._limited(found.stream_stream), found.request_deserializer, found.response_serializer
        )

    def _limited(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        intake, streams = self._intake, self._intake._streams

        async def call(request: Any, context: Any) -> None:
            peer = context.peer()
            if intake.is_stopping:
                await context.abort(*_STOPPING)
            if not streams.take(peer, 1):
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, f"{streams.used} streams are open already"
                )
            task = asyncio.current_task()
            assert task is not None
            intake._open.add(task)
            try:
                if hasattr(request, "__anext__"):
                    request = _until_idle(request)
                responses = behavior(request, context)
                if not hasattr(responses, "__anext__"):
                    await responses
                    return
                async for response in responses:
                    await context.write(response)
            except asyncio.CancelledError:
                if intake.is_stopping:
                    await context.abort(*_STOPPING)
                raise
            finally:
                intake._open.discard(task)
                streams.give_back(peer, 1)

        return call


async def _until_idle(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The requests, until none comes for a while."""
    while True:
        try:
            async with asyncio.timeout(_IDLE_S):
                request = await anext(requests)
        except (TimeoutError, StopAsyncIteration):
            return
        yield request


class Operators:
    """Threads of their own for operations that block, such as a write to disk."""

    def __init__(self) -> None:
        self._threads: list[ThreadPoolExecutor] = []
        self._waiting = Shares(_OPERATIONS)

    def answers(self, operations: Mapping[str, Operation]) -> dict[str, Answer]:
        return {name: self._answer(operation) for name, operation in operations.items()}

    def stop(self) -> None:
        for threads in self._threads:
            threads.shutdown(wait=False)

    def _answer(self, operation: Operation) -> Answer:
        # Of each operation its own: none waits for another that hangs in a file system.
        threads = ThreadPoolExecutor(_OPERATION_THREADS, "meshfold-operator")
        self._threads.append(threads)

        async def answer(call: Call) -> bytes:
            refusal = Overloaded(f"{self._waiting.used} operations wait already; try again later")
            with self._waiting.held(operation, refusal):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(threads, operation, call.message, None)

        return answer


async def _abort(context: Any, error: Exception, call: Call) -> None:
    """Ends the call with the error's status."""
    code, details = status_of(error)
    trailing = call.trailing
    if after_s := retry_after_s(error):
        # Below 0 clients do not try again.
        after_ms = -1 if after_s == NEVER else max(1, round(after_s * 1000))
        trailing = (*trailing, (PUSHBACK, str(after_ms)))
    if call.initial:
        with suppress(Exception):
            await context.send_initial_metadata(call.initial)
    await context.abort(code, details, trailing)


def split_method(full_name: str) -> tuple[str, str]:
    """/package.Service/Method -> (package.Service, Method)."""
    _, service, method = full_name.split("/")
    return service, method


def _by_service(handlers: Mapping[str, grpc.RpcMethodHandler]) -> list[grpc.GenericRpcHandler]:
    services: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
    for full_name, handler in handlers.items():
        service, method = split_method(full_name)
        services.setdefault(service, {})[method] = handler
    return [grpc.method_handlers_generic_handler(*methods) for methods in services.items()]
