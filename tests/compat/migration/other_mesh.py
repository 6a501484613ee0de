"""A mesh that has more than mesh.v1: streams of every kind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.compat.migration.conftest import MUCH_METADATA

SERVICE = "shelf.v2.Shelves"


def name(method: str) -> str:
    return f"/{SERVICE}/{method}"


@dataclass
class Seen:
    """What the mesh saw of a call. given: messages that the caller has sent so far."""

    metadata: dict[str, Any]
    left_s: float | None
    given: list[bytes] = field(default_factory=list)
    sent: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


class OtherMesh:
    """One: a message each way. Count: as many messages as the first says, of as many bytes as the metadata's x-bytes.
    Collect: all messages, joined. Talk: each message back at once. Wait: says nothing until the call ends. Early: an
    answer before the caller is done. Fail: a status with details after two messages.
    """

    def __init__(self) -> None:
        self.calls: list[Seen] = []
        handlers = {
            "One": grpc.unary_unary_rpc_method_handler(self._one),
            "Count": grpc.unary_stream_rpc_method_handler(self._count),
            "Collect": grpc.stream_unary_rpc_method_handler(self._collect),
            "Talk": grpc.stream_stream_rpc_method_handler(self._talk),
            "Wait": grpc.stream_stream_rpc_method_handler(self._wait),
            "Early": grpc.stream_unary_rpc_method_handler(self._early),
            "Fail": grpc.stream_stream_rpc_method_handler(self._fail),
        }
        self._server = grpc.server(
            ThreadPoolExecutor(16),
            handlers=[grpc.method_handlers_generic_handler(SERVICE, handlers)],
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1), *MUCH_METADATA],
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _begin(self, context: Any) -> Seen:
        left_s = context.time_remaining()
        call = Seen(
            dict(context.invocation_metadata()), None if left_s is None or left_s > 1e6 else float(left_s)
        )
        self.calls.append(call)
        if not context.add_callback(call.ended.set):
            call.ended.set()
        if "x-quiet" not in call.metadata:
            context.send_initial_metadata((("x-initial", "from the mesh"),))
        context.set_trailing_metadata((("x-trailing", "also"),))
        return call

    def _one(self, message: bytes, context: Any) -> bytes:
        self._begin(context).given.append(message)
        return b"one " + message

    def _count(self, message: bytes, context: Any) -> Iterator[bytes]:
        call = self._begin(context)
        for _ in range(int(message)):
            call.sent += 1
            yield b"x" * int(call.metadata.get("x-bytes", "1"))

    def _collect(self, messages: Iterator[bytes], context: Any) -> bytes:
        call = self._begin(context)
        for message in messages:
            call.given.append(message)
            time.sleep(float(call.metadata.get("x-wait-s", "0")))
        return b"+".join(call.given)

    def _talk(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        call = self._begin(context)
        for message in messages:
            call.given.append(message)
            yield b"you said " + message

    def _wait(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self._begin(context).ended.wait(30)
        yield from ()

    def _early(self, messages: Iterator[bytes], context: Any) -> bytes:
        call = self._begin(context)
        call.given.append(next(messages))
        return b"enough"

    def _fail(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self._begin(context)
        yield b"1"
        yield b"2"
        context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x09\xff"), ("x-trailing", "also")))
        context.abort(grpc.StatusCode.DATA_LOSS, "a shelf is gone: Bücher")
