"""Bidirectional streams: those that the server answers itself, and calls passed on message by message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import grpc
import grpc.aio

from meshfold.model.errors import NEVER, Overloaded
from meshfold.service.call import Metadata, deadline_s, metadata_bytes
from meshfold.service.shares import Shares

# Seconds that a stream which the server answers itself may be idle.
IDLE_S = 300.0
# Bytes of an answer's metadata that are not counted: the default limit of gRPC's clients.
SMALL_BYTES = 16 << 10
STOPPING = grpc.StatusCode.UNAVAILABLE, "the server is stopping; ask another"


class LimitedStreams(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A handler whose streams are limited in number and in idle time."""

    def __init__(
        self,
        handler: grpc.GenericRpcHandler,
        streams: Shares,
        running: set[asyncio.Task[Any]],
        refuse: Callable[[Any, grpc.StatusCode, str], Awaitable[None]],
        is_stopping: Callable[[], bool],
    ) -> None:
        """running: the tasks of open streams. refuse: ends a call with a status."""
        self._handler = handler
        self._streams = streams
        self._running = running
        self._refuse = refuse
        self._is_stopping = is_stopping

    def service(self, details: Any) -> Any:
        found = self._handler.service(details)
        if found is None:
            return None
        # A call with one request and a stream of answers is read as a stream too, since its request may never come.
        return grpc.stream_stream_rpc_method_handler(
            self._limited(found.stream_stream), found.request_deserializer, found.response_serializer
        )

    def _limited(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        async def call(request: Any, context: Any) -> None:
            peer = context.peer()
            if self._is_stopping():
                await self._refuse(context, *STOPPING)
            if not self._streams.take(peer, 1):
                await self._refuse(
                    context,
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{self._streams.used} streams are open already",
                )
            task = asyncio.current_task()
            assert task is not None
            self._running.add(task)
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
                if self._is_stopping():
                    await context.abort(*STOPPING)
                raise
            finally:
                self._running.discard(task)
                self._streams.give_back(peer, 1)

        return call


async def _until_idle(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The requests, until none comes for IDLE_S."""
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                request = await anext(requests)
        except (TimeoutError, StopAsyncIteration):
            return
        yield request


class Stream:
    """A bidirectional call, free of gRPC's own objects.

    At most one message each way is in memory; its bytes count against the limits of its connection. deadline_s: on
    time.monotonic()'s clock; None where the caller set none. trailing: metadata of the answer, set before it ends.
    """

    # The same attribute as a Call's, but send_initial() sends metadata while the call runs.
    initial: Metadata = ()

    def __init__(
        self,
        context: Any,
        method: str,
        metadata: Metadata,
        messages: Shares,
        answers: Shares,
        moved: Callable[[], None],
    ) -> None:
        """messages, answers: budgets of bytes, shared by all connections. moved: called after each message."""
        self.method = method
        self.metadata = metadata
        self.peer: str = context.peer()
        self.deadline_s = deadline_s(context)
        self.trailing: Metadata = ()
        self._context = context
        self._messages = messages
        self._answers = answers
        self._moved = moved
        self._held = self._initial = 0

    async def read(self) -> bytes | None:
        """The caller's next message, counted until the next read; None after the last.

        Raises Overloaded where the connection exceeds its share of the budget.
        """
        self._let_go()
        message = await self._context.read()
        if message is grpc.aio.EOF:
            return None
        given: bytes = message
        if not self._messages.take(self.peer, len(given)):
            raise Overloaded(f"{self._messages.used} bytes of requests are held already; try again later")
        self._held = len(given)
        self._moved()
        return given

    async def send_initial(self, metadata: Metadata) -> None:
        """Sends initial metadata. Raises Overloaded where the connection leaves too much unread."""
        if (size := metadata_bytes(metadata)) > SMALL_BYTES:
            self._take(size)
            self._initial = size
        await self._context.send_initial_metadata(metadata)

    async def write(self, message: bytes) -> None:
        """Sends a message once the caller has read enough. Raises Overloaded where the connection leaves too much
        unread."""
        size = len(message)
        self._take(size)
        try:
            await self._context.write(message)
        finally:
            self._answers.give_back(self.peer, size)
        self._moved()

    def close(self) -> None:
        """Gives back everything counted for the stream."""
        self._let_go()
        self._answers.give_back(self.peer, self._initial)
        self._initial = 0

    def _let_go(self) -> None:
        """Gives back the bytes of the last message read."""
        self._messages.give_back(self.peer, self._held)
        self._held = 0

    def _take(self, size: int) -> None:
        if not self._answers.take(self.peer, size):
            raise Overloaded(
                f"the answer has {size} bytes, and {self._answers.used} of {self._answers.budget} are not read yet",
                NEVER if size > self._answers.budget else 0.0,
            )


# Answers a stream. Raises the errors of service/errors.py; is cancelled when the caller leaves.
StreamAnswer = Callable[[Stream], Awaitable[None]]


class PassedStreams(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Handles calls of every method as bidirectional streams, which all gRPC calls are on the wire."""

    def __init__(self, call: Callable[[str, Any], Awaitable[None]], leaves_out: Collection[str]) -> None:
        """call: (method, gRPC context). leaves_out: prefixes of services whose methods are never passed on."""
        self._call = call
        self._leaves_out = tuple(f"/{name}" for name in leaves_out)

    def service(self, details: Any) -> Any:
        method = details.method
        if method.startswith(self._leaves_out):
            return None

        async def call(_: Any, context: Any) -> None:
            await self._call(method, context)

        return grpc.stream_stream_rpc_method_handler(call)
