"""A process that attacks a server with streams: opened and left, without a message, with answers that are never read.

    python -m benchmarks.load.attack PLAN.json

It connects, prints `ready`, waits for a line on stdin, attacks, and prints what it did as a JSON object. Streams are
opened at a bounded rate up to a number, and again where the server ends them.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.http2_client import Connection, pump_all

# Between two looks at what is due.
_STEP_S = 0.01
_RECONNECT_S = 0.5


@dataclass(frozen=True)
class Plan:
    """streams: open at once, most. rate_hz: most that are opened a second. message: hexadecimal digits; "" for an empty
    message; None for a message that never comes. end: whether the caller's side ends. window: bytes that an answer may
    send. cancel_after_s: after which a stream is cancelled; None for never."""

    address: str
    path: str
    seconds: float
    streams: int
    rate_hz: float
    connections: int
    message: str | None
    end: bool
    window: int
    cancel_after_s: float | None
    priority: int


class Attack:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._message = None if plan.message is None else bytes.fromhex(plan.message)
        self._connections: list[Connection] = []
        self._cancels: deque[tuple[float, Connection, int]] = deque()
        self._tried_s = 0.0
        self.opened = self.ended = self.closed = self.cancelled = self.most_open = 0

    def connect(self) -> None:
        """Where the server lets us; tried again twice a second."""
        if time.monotonic() - self._tried_s < _RECONNECT_S:
            return
        while len(self._connections) < self._plan.connections:
            try:
                self._connections.append(Connection(self._plan.address, self._plan.window))
            except OSError:
                self._tried_s = time.monotonic()
                return

    def run(self) -> None:
        now_s = time.monotonic()
        end_s, allowed = now_s + self._plan.seconds, 0.0
        ended = 0
        while (before_s := now_s) < end_s:
            self.closed += pump_all(self._connections, before_s + _STEP_S)
            now_s = time.monotonic()
            self.connect()
            allowed = min(allowed + (now_s - before_s) * self._plan.rate_hz, self._plan.rate_hz)
            open_now = sum(len(connection.open) for connection in self._connections)
            self.most_open = max(self.most_open, open_now)
            number = min(int(allowed), self._plan.streams - open_now)
            allowed -= self._open(number, now_s)
            self._cancel(now_s)
            ended = max(ended, sum(connection.ended for connection in self._connections))
        self.ended = ended
        for connection in self._connections:
            connection.close()

    def _open(self, number: int, now_s: float) -> int:
        """How many streams were opened."""
        opened = 0
        for place in range(number):
            if not self._connections:
                break
            connection = self._connections[place % len(self._connections)]
            if not connection.may_send:
                continue
            stream = connection.begin(self._plan.path, self._message, self._plan.end)
            opened += 1
            if self._plan.cancel_after_s is not None:
                self._cancels.append((now_s + self._plan.cancel_after_s, connection, stream))
        self.opened += opened
        return opened

    def _cancel(self, now_s: float) -> None:
        while self._cancels and self._cancels[0][0] <= now_s:
            _, connection, stream = self._cancels.popleft()
            if connection in self._connections:
                connection.cancel(stream)
                self.cancelled += 1


def main() -> None:
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text("utf-8")))
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, plan.priority)
    attack = Attack(plan)
    attack.connect()
    print("ready", flush=True)
    sys.stdin.readline()
    start_s, cpu_s = time.monotonic(), time.process_time()
    print(json.dumps({"begin_s": start_s}), flush=True)
    attack.run()
    told = {
        "cpu_s": time.process_time() - cpu_s,
        "wall_s": time.monotonic() - start_s,
        "opened": attack.opened,
        "ended": attack.ended,
        "closed": attack.closed,
        "cancelled": attack.cancelled,
        "most_open": attack.most_open,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
