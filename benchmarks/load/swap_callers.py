"""Callers who ask the same requests over and over, at a rate, and note a digest of every answer.

    python -m benchmarks.load.swap_callers PLAN RESULT

PLAN: JSON with address, method, messages (a file of write_messages), rate_hz (0: one after the other), callers and
timeout_s. It ends when its standard input does, and writes an array a column to RESULT.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from meshfold.tools.bench_generator import read_messages

# Columns of a call: when it was due, sent and answered on time.monotonic()'s clock; which request; gRPC's code; digest.
COLUMNS = ("due_s", "sent_s", "end_s", "request", "code", "digest")


def digest_of(answer: bytes) -> int:
    """63 bits."""
    return int.from_bytes(hashlib.blake2b(answer, digest_size=8).digest(), "big") >> 1


class Callers:
    def __init__(self, plan: dict[str, Any], messages: Sequence[bytes]) -> None:
        self._plan = plan
        self._messages = messages
        self._calls: list[tuple[float, float, float, int, int, int]] = []
        self._stopping = asyncio.Event()

    async def run(self, result: Path) -> None:
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, self._wait_for_end, loop)
        print("ready", flush=True)
        await asyncio.gather(*(self._caller(number) for number in range(self._plan["callers"])))
        columns = (np.array(column) for column in zip(*self._calls, strict=True))
        named: dict[str, Any] = dict(zip(COLUMNS, columns, strict=True))
        with result.open("wb") as file:
            np.savez(file, **named)

    def _wait_for_end(self, loop: asyncio.AbstractEventLoop) -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(self._stopping.set)

    async def _caller(self, number: int) -> None:
        """Calls are due at even times; one that is late is sent when the call before it has ended."""
        plan, callers = self._plan, self._plan["callers"]
        every_s = callers / plan["rate_hz"] if plan["rate_hz"] else 0.0
        due_s = time.monotonic() + every_s * number / callers
        asked = number
        async with grpc.aio.insecure_channel(plan["address"]) as channel:
            ask = channel.unary_unary(plan["method"])
            while not self._stopping.is_set():
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                request = asked % len(self._messages)
                sent_s = time.monotonic()
                code, digest = 0, 0
                try:
                    digest = digest_of(await ask(self._messages[request], timeout=plan["timeout_s"]))
                except grpc.aio.AioRpcError as error:
                    code = error.code().value[0]
                end_s = time.monotonic()
                self._calls.append((due_s, sent_s, end_s, request, code, digest))
                asked += callers + 1
                due_s = due_s + every_s if every_s else end_s


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    asyncio.run(Callers(plan, read_messages(Path(plan["messages"]))).run(Path(sys.argv[2])))


if __name__ == "__main__":
    main()
