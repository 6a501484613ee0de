"""A process that sends calls in an open loop, in which each call has its start time, or in a closed loop, in which each
of several callers sends its next call after the answer to the last.

    python -m meshfold.tools.bench_generator PLAN.json RESULT.npz

It connects, prints `ready`, waits for a line on stdin, sends, and prints its own cost as a JSON object. Plans are
written and results are read by bench_calls.py. Requests and answers stay bytes, so that a call costs little. Unless a
plan says `anywhere`, only loopback addresses are called. A plan's time is bounded, and so are the calls under way.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np

# Longest duration of a plan, in seconds.
MOST_S = 2 * 3600.0
CONNECT_S = 10.0
# Seconds that a caller of a closed loop waits after a failure without a time to retry, and longest wait.
REFUSED_S, MOST_WAIT_S = 0.05, 1.0
# Seconds between measurements of the event loop's delay.
LAG_PERIOD_S = 0.005
# Codes besides gRPC's: a call that was not sent because too many were open, and one that got no answer.
NOT_SENT, UNANSWERED = -1, -2
PUSHBACK = "grpc-retry-pushback-ms"
_COLUMNS = ("phase", "due_s", "sent_s", "end_s", "code", "pushback_ms", "answer_bytes")


class Stream:
    """Calls of one kind to one address, in phases with one rate each. In a closed loop the rate results from the
    callers."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        if not plan["anywhere"]:
            check_loopback(plan["address"])
        self.name: str = plan["name"]
        self._phases: list[tuple[float, float, float | None]] = [tuple(phase) for phase in plan["phases"]]
        self._even: bool = plan["arrivals"] == "even"
        self._most = int(plan["most_under_way"])
        self._callers = int(plan["callers"])
        self._messages = read_messages(Path(plan["messages"]))
        self._random = random.Random(f"{plan['seed']} {self.name}")
        # A separate pool per channel, since gRPC would otherwise share one connection to an address.
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self._channels = [
            grpc.aio.insecure_channel(plan["address"], options) for _ in range(plan["channels"])
        ]
        self._calls = [channel.unary_unary(plan["method"]) for channel in self._channels]
        self._under_way: set[asyncio.Task[Any]] = set()
        self._rows: list[tuple[float, ...]] = []

    async def connect(self) -> None:
        """Connects. A failure is ignored, since the calls will report it."""
        for channel in self._channels:
            with suppress(TimeoutError):
                await asyncio.wait_for(channel.channel_ready(), CONNECT_S)

    async def send(self, begin_s: float, drain_s: float) -> None:
        if self._callers:
            await self._send_in_turns(begin_s)
        else:
            await self._send_when_due(begin_s)
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=drain_s)
        for task in list(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    async def _send_in_turns(self, begin_s: float) -> None:
        """Runs a closed loop; returns when no more calls are sent."""
        await asyncio.sleep(begin_s - time.monotonic())
        self._under_way = {
            asyncio.create_task(self._send_in_turn(begin_s, caller)) for caller in range(self._callers)
        }
        seconds = sum(seconds for _, seconds, _ in self._phases)
        await asyncio.sleep(begin_s + seconds - time.monotonic())

    async def _send_in_turn(self, begin_s: float, caller: int) -> None:
        """Runs one caller of a closed loop."""
        number, end_s = self._random.randrange(len(self._messages)), begin_s
        call = self._calls[caller % len(self._calls)]
        for phase, (_, seconds, timeout_s) in enumerate(self._phases):
            end_s += seconds
            while (now_s := time.monotonic()) < end_s:
                number += 1
                message = self._messages[number % len(self._messages)]
                code, pushback_ms = await self._ask(call, message, phase, now_s, timeout_s)
                if code != 0:
                    # Waits like a caller that was refused; an immediate retry would be an attack.
                    wait_s = pushback_ms / 1000 if pushback_ms > 0 else REFUSED_S
                    await asyncio.sleep(min(wait_s, MOST_WAIT_S, max(0.0, end_s - time.monotonic())))

    async def _send_when_due(self, begin_s: float) -> None:
        number = self._random.randrange(len(self._messages))
        for phase, due_s, timeout_s in self._moments(begin_s):
            wait_s = due_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if len(self._under_way) >= self._most:
                self._rows.append((phase, due_s, np.nan, time.monotonic(), NOT_SENT, np.nan, 0))
                continue
            number += 1
            call = self._calls[number % len(self._calls)]
            message = self._messages[number % len(self._messages)]
            task = asyncio.create_task(self._ask(call, message, phase, due_s, timeout_s))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    def columns(self) -> Iterator[tuple[str, Any]]:
        rows = np.array(self._rows, np.float64).reshape(-1, len(_COLUMNS))
        for place, name in enumerate(_COLUMNS):
            yield f"{self.name}.{name}", rows[:, place]

    def _moments(self, begin_s: float) -> Iterator[tuple[int, float, float | None]]:
        """The phase, start time and timeout of each call."""
        start_s = begin_s
        for phase, (rate_hz, seconds, timeout_s) in enumerate(self._phases):
            due_s, end_s = start_s, start_s + seconds
            while rate_hz > 0:
                due_s += 1 / rate_hz if self._even else self._random.expovariate(rate_hz)
                if due_s >= end_s:
                    break
                yield phase, due_s, timeout_s
            start_s = end_s

    async def _ask(
        self, call: Any, message: bytes, phase: int, due_s: float, timeout_s: float | None
    ) -> tuple[int, float]:
        """Sends a call; returns its code and the milliseconds until a retry, NaN for none."""
        sent_s = time.monotonic()
        code, pushback_ms, answer_bytes = 0, np.nan, 0
        try:
            answer_bytes = len(await call(message, timeout=timeout_s))
        except grpc.aio.AioRpcError as error:
            code = error.code().value[0]
            for key, value in error.trailing_metadata() or ():
                if key == PUSHBACK:
                    pushback_ms = float(value)
        except asyncio.CancelledError:
            code = UNANSWERED
        self._rows.append((phase, due_s, sent_s, time.monotonic(), code, pushback_ms, answer_bytes))
        return code, pushback_ms


def check_loopback(address: str) -> None:
    """Raises SystemExit for an address on another machine, which must not get load."""
    host = address.rpartition(":")[0].strip("[]")
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise SystemExit(f"{address} is not on this machine: load goes to loopback addresses alone")


def read_messages(path: Path) -> list[bytes]:
    """Reads messages, each after its length in four bytes, as bench_calls.py writes them."""
    data, messages, place = path.read_bytes(), [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        messages.append(data[place + 4 : place + 4 + size])
        place += 4 + size
    if not messages:
        raise SystemExit(f"{path} holds no messages")
    return messages


async def _lags(into: list[float]) -> None:
    """Measures the event loop's delay, for ever."""
    while True:
        due_s = time.monotonic() + LAG_PERIOD_S
        await asyncio.sleep(LAG_PERIOD_S)
        into.append(time.monotonic() - due_s)


async def _run(plan: Mapping[str, Any], result: Path) -> None:
    streams = [Stream({**stream, "seed": plan["seed"]}) for stream in plan["streams"]]
    await asyncio.gather(*(stream.connect() for stream in streams))
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)
    print("ready", flush=True)
    if not await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        # The parent process has ended.
        return
    begin_s, cpu_s = time.monotonic() + 0.02, time.process_time()
    print(json.dumps({"begin_s": begin_s}), flush=True)
    lags: list[float] = []
    watch = asyncio.create_task(_lags(lags))
    await asyncio.gather(*(stream.send(begin_s, plan["drain_s"]) for stream in streams))
    watch.cancel()
    spent_s = time.process_time() - cpu_s
    np.savez(result, **dict(column for stream in streams for column in stream.columns()))
    results = {
        "cpu_s": spent_s,
        "wall_s": time.monotonic() - begin_s,
        "lag_p99_ms": 1000 * float(np.quantile(lags, 0.99)) if lags else 0.0,
    }
    print(json.dumps(results), flush=True)


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    longest_s = max(sum(phase[1] for phase in stream["phases"]) for stream in plan["streams"])
    if longest_s + plan["drain_s"] > MOST_S:
        raise SystemExit(f"a plan of {longest_s:g} s is longer than {MOST_S:g} s")
    # The generator gets priority where permitted, since latencies are measured by its clock.
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, plan["priority"])
    asyncio.run(_run(plan, Path(sys.argv[2])))


if __name__ == "__main__":
    main()
