"""Reads requests from gRPC and sends answers, within bounds on the memory and calls of each connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import grpc.aio

from meshfold.model.errors import NEVER, Overloaded, Unavailable
from meshfold.service.call import Answer, Call, Metadata, deadline_s, metadata_bytes
from meshfold.service.errors import is_anothers, retry_after_s, status_of
from meshfold.service.refusals import Refusals
from meshfold.service.shares import Shares
from meshfold.service.streams import (
    SMALL_BYTES,
    STOPPING,
    LimitedStreams,
    PassedStreams,
    Stream,
    StreamAnswer,
)

# Metadata key of the milliseconds after which to retry a refused call, as gRPC's clients know it (gRFC A6).
PUSHBACK = "grpc-retry-pushback-ms"
# Most calls that wait for their message, over all connections, and seconds that a message may take to arrive.
_UNREAD_REQUESTS, _READ_S = 2048, 5.0
# Most streams that the server answers itself, over all connections.
_STREAMS = 256
# Prefixes of services whose calls are never passed on: the server's own and the operators'.
_OWN = ("meshfold.", "grpc.health.", "grpc.reflection.")
# Most operators' calls that wait for a thread, and threads of each operation.
_OPERATIONS, _OPERATION_THREADS = 64, 2

# An operator's call: request bytes and context to answer bytes. It may block.
Operation = Callable[[bytes, Any], bytes]


@dataclass(frozen=True)
class IntakeLimits:
    """timeout_s: time limit of a call without a deadline. held_bytes: most bytes of unanswered requests, and as many of
    their metadata. unread_bytes: most bytes of answers that callers have not read. passed_calls: most calls passed on
    at once. passed_idle_s: longest time without a message in such a call."""

    timeout_s: float
    held_bytes: int
    unread_bytes: int
    passed_calls: int = 1024
    passed_idle_s: float = 3600.0


class Intake:
    """Turns answers into gRPC handlers. One connection may use at most as much of a limit as is still free."""

    def __init__(self, limits: IntakeLimits) -> None:
        self._limits = limits
        self._requests = Shares(_UNREAD_REQUESTS)
        self._metadata = Shares(limits.held_bytes)
        self._bytes = Shares(limits.held_bytes)
        self._answers = Shares(limits.unread_bytes)
        self._streams = Shares(_STREAMS)
        self._passed = Shares(limits.passed_calls)
        self.refusals = Refusals()
        self._open: set[asyncio.Task[Any]] = set()
        self._calls = 0
        self._last_s = float("-inf")
        self.is_stopping = False

    def refuse(self) -> None:
        """Refuses further calls and messages of open streams with UNAVAILABLE. Runs on the loop."""
        self.is_stopping = True
        for task in self._open:
            task.cancel()

    def is_quiet(self, quiet_s: float) -> bool:
        """Whether no call is in flight and the last one came more than quiet_s seconds ago."""
        return not self._calls and time.monotonic() - self._last_s >= quiet_s

    def calls(self) -> int:
        """Number of calls in flight, without the streams that the server answers itself."""
        return self._calls

    def unread_bytes(self) -> int:
        """Bytes of answers that callers have not read."""
        return self._answers.used

    def unary(self, answers: Mapping[str, Answer]) -> list[grpc.GenericRpcHandler]:
        """Handlers of unary calls, by full method name. An answer gets the request's bytes unchanged."""
        # On the wire a unary call is a stream of one message. Read as a stream, it costs no memory before it is whole.
        return _by_service(
            {
                name: grpc.stream_unary_rpc_method_handler(self._unary(answer))
                for name, answer in answers.items()
            }
        )

    def streams(self, handler: grpc.GenericRpcHandler) -> grpc.GenericRpcHandler:
        """The handler, with its streams of messages limited in number and in the time that they may be idle."""
        return LimitedStreams(handler, self._streams, self._open, self._refuse, lambda: self.is_stopping)

    def passed(self, answer: StreamAnswer) -> grpc.GenericRpcHandler:
        """The handler of every method that no other handler has, except those of the server's own services."""
        return PassedStreams(partial(self._counted, partial(self._pass, answer)), _OWN)

    def _unary(self, answer: Answer) -> Callable[[Any, Any], Any]:
        async def call(_: Any, context: Any) -> bytes:
            reply: bytes = await self._counted(self._answer, answer, context)
            return reply

        return call

    async def _counted(self, call: Callable[..., Awaitable[Any]], *given: Any) -> Any:
        """The result of a call that counts as in flight, so that a stopping server waits for it."""
        self._calls += 1
        self._last_s = time.monotonic()
        try:
            return await call(*given)
        finally:
            self._calls -= 1

    async def _answer(self, answer: Answer, context: Any) -> bytes:
        async with self._carried(context) as (peer, metadata):
            message = await self.read(context)
            given_s = deadline_s(context)
            ends_s = time.monotonic() + self._limits.timeout_s if given_s is None else given_s
            made = Call(message, ends_s, given_s is not None, metadata, peer)
            try:
                with self._bytes.held(peer, "bytes of requests are held", len(message)):
                    reply = await answer(made)
                self._hold(peer, len(reply) + metadata_bytes((*made.initial, *made.trailing)), context)
            except Exception as error:
                await self._abort(context, error, made)
            if made.initial:
                await context.send_initial_metadata(made.initial)
            if made.trailing:
                context.set_trailing_metadata(made.trailing)
            return reply

    async def _pass(self, answer: StreamAnswer, method: str, context: Any) -> None:
        if self.is_stopping:
            await self._refuse(context, *STOPPING)
        async with self._carried(context) as (peer, metadata):
            idle_s = self._limits.passed_idle_s
            loop = asyncio.get_running_loop()
            idle = asyncio.timeout(idle_s)

            def moved() -> None:
                if not idle.expired():
                    idle.reschedule(loop.time() + idle_s)

            stream = Stream(context, method, metadata, self._bytes, self._answers, moved)
            try:
                with self._passed.held(peer, "calls are passed on"):
                    async with idle:
                        await answer(stream)
                if (size := metadata_bytes(stream.trailing)) > SMALL_BYTES:
                    self._hold(peer, size, context)
            except TimeoutError:
                late = Unavailable(f"no message came or went for {idle_s:g} s; call again")
                await self._abort(context, late, stream)
            except Exception as error:
                await self._abort(context, error, stream)
            finally:
                stream.close()
            context.set_trailing_metadata(stream.trailing)

    @asynccontextmanager
    async def _carried(self, context: Any) -> AsyncIterator[tuple[str, Metadata]]:
        """The connection of a call, and its metadata, whose bytes count against the connection while the block runs."""
        peer, metadata = context.peer(), tuple(context.invocation_metadata() or ())
        size = metadata_bytes(metadata)
        if not self._metadata.take(peer, size):
            await self._refuse(
                context,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._metadata.used} bytes of metadata are held already; try again later",
            )
        try:
            yield peer, metadata
        finally:
            self._metadata.give_back(peer, size)

    async def read(self, context: Any) -> Any:
        """The first message of a call. Ends the call where none arrives in time."""
        peer = context.peer()
        if self.is_stopping:
            await self._refuse(context, *STOPPING)
        if not self._requests.take(peer, 1):
            await self._refuse(
                context,
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
            late = f"no message came within {_READ_S:g} s"
            await self._refuse(context, grpc.StatusCode.DEADLINE_EXCEEDED, late)
        if message is grpc.aio.EOF:
            await self._refuse(
                context, grpc.StatusCode.INVALID_ARGUMENT, "request: the call ended without a message"
            )
        return message

    def _hold(self, peer: str, size: int, context: Any) -> None:
        """Counts an answer's bytes until the caller has read them. Raises Overloaded where the limit is reached."""
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

    async def _refuse(self, context: Any, code: grpc.StatusCode, details: str) -> None:
        self.refusals.note(code, details)
        await context.abort(code, details)

    async def _abort(self, context: Any, error: Exception, call: Call | Stream) -> None:
        """Ends the call with the error's status."""
        code, details = status_of(error)
        if not is_anothers(error):
            self.refusals.note(code, details if isinstance(error, Overloaded | Unavailable) else "")
        initial, trailing = call.initial, call.trailing
        size = metadata_bytes((*initial, *trailing)) + len(details)
        try:
            if size > SMALL_BYTES:
                self._hold(context.peer(), size, context)
        except Overloaded as full:
            (code, details), initial, trailing = status_of(full), (), ()
        if after_s := retry_after_s(error):
            # A negative value tells clients not to retry.
            after_ms = -1 if after_s == NEVER else max(1, round(after_s * 1000))
            trailing = (*trailing, (PUSHBACK, str(after_ms)))
        if initial:
            with suppress(Exception):
                await context.send_initial_metadata(initial)
        await context.abort(code, details, trailing)


class Operators:
    """Runs operators' calls, which may block on a disk, on threads of their own."""

    def __init__(self) -> None:
        self._threads: list[ThreadPoolExecutor] = []
        self._waiting = Shares(_OPERATIONS)

    def answers(self, operations: Mapping[str, Operation]) -> dict[str, Answer]:
        return {name: self._answer(operation) for name, operation in operations.items()}

    def stop(self) -> None:
        for threads in self._threads:
            threads.shutdown(wait=False)

    def _answer(self, operation: Operation) -> Answer:
        # Each operation has its own threads, so that none waits for another that hangs in a file system.
        threads = ThreadPoolExecutor(_OPERATION_THREADS, "meshfold-operator")
        self._threads.append(threads)

        async def answer(call: Call) -> bytes:
            with self._waiting.held(operation, "operations wait"):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(threads, operation, call.message, None)

        return answer


def signed(answer: Answer, trailing: Metadata) -> Answer:
    """The answer with trailing metadata that name its source."""

    async def signed(call: Call) -> bytes:
        call.trailing = (*trailing, *call.trailing)
        return await answer(call)

    return signed


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
