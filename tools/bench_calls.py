"""Plans for the generator of calls (bench_generator.py), and their results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np

from meshfold.tools.bench_generator import NOT_SENT, UNANSWERED
from meshfold.tools.bench_process import FIRST, Signalled

GENERATOR = "meshfold.tools.bench_generator"
RETRIEVE = "/mesh.v1.OrchestratorService/Retrieve"
HEALTH = "/grpc.health.v1.Health/Check"
NAMES = {code.value[0]: code.name for code in grpc.StatusCode} | {
    NOT_SENT: "not sent",
    UNANSWERED: "unanswered",
}
_OK, _DEADLINE, _EXHAUSTED, _UNAVAILABLE = 0, 4, 8, 14


@dataclass(frozen=True)
class Phase:
    """A phase of a stream, at one rate. timeout_s: the callers' deadline; None for none."""

    rate_hz: float
    seconds: float
    timeout_s: float | None


@dataclass(frozen=True)
class Stream:
    """Calls of one kind to one address. messages: a file of write_messages. arrivals: poisson or even. callers: number
    of callers of a closed loop; 0 for an open loop. anywhere: whether the address may be on another machine.
    """

    name: str
    address: str
    method: str
    messages: Path
    phases: Sequence[Phase]
    arrivals: str = "poisson"
    channels: int = 2
    most_under_way: int = 5000
    callers: int = 0
    anywhere: bool = False

    def to_json(self) -> dict[str, Any]:
        phases = [(phase.rate_hz, phase.seconds, phase.timeout_s) for phase in self.phases]
        return asdict(self) | {"messages": str(self.messages), "phases": phases}


@dataclass(frozen=True, eq=False)
class Calls:
    """The calls of a stream, as columns; times on time.monotonic()'s clock. pushback_ms: NaN where the server sent
    none."""

    phase: np.ndarray
    due_s: np.ndarray
    sent_s: np.ndarray
    end_s: np.ndarray
    code: np.ndarray
    pushback_ms: np.ndarray
    answer_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.due_s)

    def where(self, chosen: np.ndarray) -> Calls:
        return Calls(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def during(self, start_s: float, end_s: float) -> Calls:
        """The calls that were due within a time."""
        return self.where((self.due_s >= start_s) & (self.due_s < end_s))

    @property
    def latency_ms(self) -> np.ndarray:
        """Latencies, counted from the time at which each call was due."""
        taken: np.ndarray = 1000 * (self.end_s - self.due_s)
        return taken

    @property
    def ok(self) -> np.ndarray:
        is_ok: np.ndarray = self.code == _OK
        return is_ok

    @property
    def rejected(self) -> np.ndarray:
        """Whether each call was refused by the server, for lack of room or with a time to retry."""
        hinted = ~np.isnan(self.pushback_ms) & np.isin(self.code, (_DEADLINE, _EXHAUSTED, _UNAVAILABLE))
        is_rejected: np.ndarray = (self.code == _EXHAUSTED) | hinted
        return is_rejected

    def codes(self) -> dict[str, int]:
        return {NAMES[int(code)]: number for code, number in sorted(Counter(self.code.tolist()).items())}


def quantile(values: np.ndarray, share: float) -> float:
    """A quantile; 0 without values."""
    return float(np.quantile(values, share)) if len(values) else 0.0


@dataclass(frozen=True)
class Cost:
    """The generator's processor time, and the delays of its event loop."""

    cpu_s: float
    wall_s: float
    lag_p99_ms: float


class Generator:
    """A generator's process. It is connected when made, and sends from start() on."""

    def __init__(
        self, streams: Sequence[Stream], seed: int = 0, drain_s: float = 5.0, priority: int = FIRST
    ) -> None:
        """drain_s: seconds that it waits for the last answers. priority: its niceness, where permitted."""
        self._names = [stream.name for stream in streams]
        plan = {
            "seed": seed,
            "drain_s": drain_s,
            "priority": priority,
            "streams": [stream.to_json() for stream in streams],
        }
        self._process = Signalled(GENERATOR, plan)
        self.cost = Cost(0.0, 0.0, 0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close()

    def start(self) -> float:
        """Starts sending; returns the start of the first phase, on time.monotonic()'s clock."""
        return self._process.start()

    def calls(self) -> dict[str, Calls]:
        """Waits for the end of the last phase and its answers; returns the calls by stream."""
        self.cost = Cost(**self._process.results())
        with np.load(self._process.result) as arrays:
            return {
                name: Calls(*(arrays[f"{name}.{column}"] for column in Calls.__dataclass_fields__))
                for name in self._names
            }


def send(streams: Sequence[Stream], seed: int = 0, drain_s: float = 5.0) -> tuple[dict[str, Calls], Cost]:
    """Runs a plan from its start to its end."""
    with Generator(streams, seed, drain_s) as generator:
        generator.start()
        calls = generator.calls()
        return calls, generator.cost


def write_messages(path: Path, messages: Sequence[bytes]) -> Path:
    """Writes a file of messages, each after its length in four bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(len(message).to_bytes(4, "big") + message for message in messages))
    return path
