"""Sends calls to a server, at a rate or by a number of callers that each wait for their answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from meshfold.model.errors import InvalidData, Unavailable
from meshfold.tools.bench_calls import RETRIEVE, Calls, Generator, Phase, Stream, quantile
from meshfold.tools.bench_generator import read_messages
from meshfold.tools.bench_search import Window

# Most bytes of a file of requests.
_MOST_BYTES = 1 << 30
_VARINT_BITS = 35


@dataclass(frozen=True)
class Loop:
    """The result of a closed loop, whose callers send the next call after an answer, or a moment after a failure."""

    callers: int
    seconds: float
    calls: int
    failed: int
    rate_hz: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    generator_cores: float
    answer_bytes: float

    @property
    def answered(self) -> int:
        return self.calls - self.failed


class Target:
    """A unary method at an address. watched: a context entered around the calls, for measurements at the server."""

    def __init__(
        self,
        address: str,
        messages: Path,
        limit_ms: float,
        method: str = RETRIEVE,
        channels: int = 4,
        anywhere: bool = False,
        watched: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """messages: a file of write_messages. limit_ms: latency beyond which a call is late; it is cancelled after ten
        times that. anywhere: whether the address may be on another machine."""
        self.address = address
        self._messages, self._method, self._channels = messages, method, channels
        self._limit_ms, self._anywhere, self._watched = limit_ms, anywhere, watched
        self._timeout_s = 10 * limit_ms / 1000
        self._seed = 0

    def check(self) -> None:
        """Sends one call. Raises Unavailable where it is not answered."""
        with grpc.insecure_channel(self.address, [("grpc.max_receive_message_length", -1)]) as channel:
            try:
                message = read_messages(self._messages)[0]
                channel.unary_unary(self._method)(message, timeout=max(10.0, self._timeout_s))
            except grpc.RpcError as error:
                raise Unavailable(
                    f"{self.address} does not answer {self._method}: {error.code().name}, {error.details()}"
                ) from None

    def window(self, rate_hz: float, seconds: float) -> Window:
        """Runs an open loop with a Poisson process of calls. Delays of the generator count as latency."""
        calls, generator_cores, _ = self._send(Phase(rate_hz, seconds, self._timeout_s), 0)
        # A failed call counts as one cancelled at the timeout.
        latency_ms = np.where(calls.ok, calls.latency_ms, 1000 * self._timeout_s)
        sent_late_ms = 1000 * (calls.sent_s - calls.due_s)
        return Window(
            rate_hz=rate_hz,
            seconds=seconds,
            calls=len(calls),
            failed=int((~calls.ok).sum()),
            late=int((latency_ms > self._limit_ms).sum()),
            **_quantiles(latency_ms),
            generator_cores=generator_cores,
            generator_late_ms=quantile(sent_late_ms[~np.isnan(sent_late_ms)], 0.99),
        )

    def loop(self, callers: int, seconds: float) -> Loop:
        """Runs a closed loop. Its rate counts only answers."""
        calls, generator_cores, answer_bytes = self._send(Phase(0.0, seconds, 100 * self._timeout_s), callers)
        took_s = float(calls.end_s.max() - calls.sent_s.min()) if len(calls) else seconds
        return Loop(
            callers=callers,
            seconds=seconds,
            calls=len(calls),
            failed=int((~calls.ok).sum()),
            rate_hz=float(calls.ok.sum()) / took_s,
            **_quantiles(calls.latency_ms[calls.ok]),
            generator_cores=generator_cores,
            answer_bytes=answer_bytes,
        )

    def _send(self, phase: Phase, callers: int) -> tuple[Calls, float, float]:
        self._seed += 1
        stream = Stream(
            "caller",
            self.address,
            self._method,
            self._messages,
            [phase],
            channels=self._channels,
            callers=callers,
            anywhere=self._anywhere,
        )
        with Generator([stream], self._seed, drain_s=self._timeout_s) as generator:
            with self._watched():
                generator.start()
                calls = generator.calls()["caller"]
            cores = generator.cost.cpu_s / generator.cost.wall_s
        answered = calls.answer_bytes[calls.ok]
        return calls, cores, float(answered.mean()) if len(answered) else 0.0


def read_length_prefixed(path: Path) -> list[bytes]:
    """Reads messages, each after its length as a varint, as `meshfold record read --requests` writes them.

    Raises InvalidData.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InvalidData(f"{path} has more than {_MOST_BYTES >> 20} MiB; take some of its requests")
        data = path.read_bytes()
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}") from None
    messages: list[bytes] = []
    place = 0
    while place < len(data):
        size, shift = 0, 0
        while place < len(data) and shift < _VARINT_BITS:
            byte = data[place]
            size |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if not byte & 0x80:
                break
        else:
            size = len(data)
        if place + size > len(data):
            raise InvalidData(
                f"{path}, message {len(messages) + 1}: ends in the middle; expected messages, each after its length"
                " as a varint, such as `meshfold record read --requests` writes"
            )
        messages.append(data[place : place + size])
        place += size
    if not messages:
        raise InvalidData(f"{path} holds no requests; expected at least one")
    return messages


def _quantiles(latency_ms: np.ndarray) -> dict[str, float]:
    return {
        f"{name}_ms": quantile(latency_ms, share)
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
