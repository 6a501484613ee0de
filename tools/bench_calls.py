"""Plans of the generator of calls (bench_generator.py), and what became of the calls."""

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
    """timeout_s: the callers' deadline; None for none."""

    rate_hz: float
    seconds: float
    timeout_s: float | None


@dataclass(frozen=True)
class Stream:
    """One kind of call at one address. messages: a file that write_messages wrote. arrivals: poisson or even.

    callers: of a closed loop; 0 for an open loop. anywhere: whether the address may be of another machine.
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
    """Calls of a stream, an entry a call; times on time.monotonic()'s clock. pushback_ms: NaN where none was told."""

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
        """Those that were due in a time."""
        return self.where((self.due_s >= start_s) & (self.due_s < end_s))

    @property
    def latency_ms(self) -> np.ndarray:
        """From when a call should have started."""
        taken: np.ndarray = 1000 * (self.end_s - self.due_s)
        return taken

    @property
    def ok(self) -> np.ndarray:
        is_ok: np.ndarray = self.code == _OK
        return is_ok

    @property
    def rejected(self) -> np.ndarray:
        """Refused by the server: for want of room, or with a hint when to come again."""
        hinted = ~np.isnan(self.pushback_ms) & np.isin(self.code, (_DEADLINE, _EXHAUSTED, _UNAVAILABLE))
        is_rejected: np.ndarray = (self.code == _EXHAUSTED) | hinted
        return is_rejected

    def codes(self) -> dict[str, int]:
        return {NAMES[int(code)]: number for code, number in sorted(Counter(self.code.tolist()).items())}


def quantile(values: np.ndarray, share: float) -> float:
    """0 where there are no values."""
    return float(np.quantile(values, share)) if len(values) else 0.0


@dataclass(frozen=True)
class Cost:
    """Of the generator: its processor time, and how much later than asked it woke."""

    cpu_s: float
    wall_s: float
    lag_p99_ms: float


class Generator:
    """A generator's process: connected when it is made, sending from start() on."""

    def __init__(
        self, streams: Sequence[Stream], seed: int = 0, drain_s: float = 5.0, priority: int = FIRST
    ) -> None:
        """drain_s: how long it waits for the last answers. priority: its niceness, where it may choose it."""
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
        """The moment at which the first phase begins, on time.monotonic()'s clock."""
        return self._process.start()

    def calls(self) -> dict[str, Calls]:
        """By stream; waits for the end of the last phase and its answers."""
        self.cost = Cost(**self._process.told())
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
    """A file of messages, each after its length in four bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(len(message).to_bytes(4, "big") + message for message in messages))
    return path
