"""Passes calls of unknown methods on to the mesh, message by message and unparsed, streams included."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from meshfold.compat.migration.breaker import DOWN
from meshfold.compat.migration.connections import Connections
from meshfold.compat.migration.sides import ANSWERED_BY, check, passed_back, passed_on
from meshfold.service.call import Metadata
from meshfold.service.front import Side
from meshfold.service.streams import Stream

# Seconds that empty initial metadata of the mesh are delayed: where a status follows at once, it is sent alone, so that
# gRPC's clients can retry.
_ALONE_S = 0.05
_BY_THE_MESH = ((ANSWERED_BY, Side.MESH.value),)


class Passed:
    """Passes calls on. A call ends with the mesh's status, at its deadline, or when the caller leaves."""

    def __init__(
        self, connections: Connections, silence_s: float, ended: Callable[[grpc.StatusCode], None]
    ) -> None:
        """silence_s: seconds without a message on a connection after which later calls get another one. ended: called
        with the status of each call; must not wait."""
        self._connections = connections
        self._silence_s = silence_s
        self._ended = ended
        self.open = 0

    async def __call__(self, stream: Stream) -> None:
        """Passes a call on. Raises grpc.RpcError with the mesh's status, InvalidQuery for metadata that gRPC cannot
        send."""
        metadata = passed_on(stream.metadata)
        check(metadata)
        if not self._connections.is_open:
            self._connections.open()
        self.open += 1
        code = grpc.StatusCode.CANCELLED
        try:
            await self._pass(stream, metadata)
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
            stream.trailing = (*passed_back(error.trailing_metadata()), *_BY_THE_MESH)
            raise
        finally:
            self.open -= 1
            self._ended(code)

    async def _pass(self, stream: Stream, metadata: Metadata) -> None:
        connection = await self._connections.pick(stream.deadline_s)
        timeout_s = None if stream.deadline_s is None else max(0.0, stream.deadline_s - time.monotonic())
        with self._connections.used(connection, self._silence_s):
            call = connection.channel.stream_stream(stream.method)(timeout=timeout_s, metadata=metadata)
            try:
                await _both_ways(stream, call, connection.heard)
            except grpc.aio.AioRpcError as error:
                if error.code() not in DOWN:
                    connection.heard()
                raise


async def _both_ways(stream: Stream, call: Any, heard: Callable[[], None]) -> None:
    up = asyncio.create_task(_up(stream, call))
    down = asyncio.create_task(_down(stream, call, heard))
    try:
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        if not down.done():
            # Raises the error of the caller's side, while the mesh's side goes on.
            up.result()
        await down
    finally:
        call.cancel()
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _up(stream: Stream, call: Any) -> None:
    """Sends the caller's messages to the mesh. A failed write is ignored, since the mesh's status follows."""
    with suppress(Exception):
        await call.wait_for_connection()
    while (message := await stream.read()) is not None:
        try:
            # Not call.write, which replaces a status of the mesh that comes meanwhile by INTERNAL.
            await call._cython_call.send_serialized_message(message)
        except Exception:
            return
    with suppress(Exception):
        await call.done_writing()


async def _down(stream: Stream, call: Any, heard: Callable[[], None]) -> None:
    """Sends the mesh's answer to the caller. Raises grpc.RpcError with the mesh's status unless it is OK.

    heard: called whenever the mesh sent something.
    """
    initial = passed_back(await call.initial_metadata())
    # A status made on this side, such as a passed deadline, ends the call without initial metadata.
    if not call.done():
        heard()
    first = asyncio.ensure_future(call.read())
    try:
        if not initial:
            await asyncio.wait((first,), timeout=_ALONE_S)
        if initial or not first.done():
            await stream.send_initial(initial)
        message = await first
    finally:
        first.cancel()
    while message is not grpc.aio.EOF:
        heard()
        await stream.write(message)
        message = await call.read()
    heard()
    stream.trailing = (*passed_back(await call.trailing_metadata()), *_BY_THE_MESH)
