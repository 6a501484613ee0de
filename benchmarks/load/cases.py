"""The attacks of hang.py: callers of one surface who ask for too much, or never finish what they began."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.load.world import ATTACKED, World
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.mesh.v1 import types_pb2
from meshfold.tools.bench_calls import HEALTH, RETRIEVE, Generator, Phase, Stream, write_messages
from meshfold.tools.bench_process import LAST, Signalled

ATTACK = "benchmarks.load.attack"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
WATCH = "/grpc.health.v1.Health/Watch"
MOST_RESULTS = 10_000
# Below the server's default limit of a message.
MESSAGE_BYTES = 4_000_000


@dataclass(frozen=True)
class Calls:
    """Whole calls in an open loop. message: made when it is needed. most: under way at once."""

    message: Callable[[], bytes]
    rate_hz: float
    timeout_s: float | None
    most: int = 10_000
    channels: int = 4
    method: str = RETRIEVE


@dataclass(frozen=True)
class Streams:
    """Streams over raw HTTP/2; see Plan in attack.py."""

    path: str
    streams: int
    rate_hz: float
    connections: int
    message: Callable[[], bytes] | None = None
    end: bool = False
    window: int = 65_535
    cancel_after_s: float | None = None


@dataclass(frozen=True)
class Case:
    """An attack on one of the two servers. mesh_delay_s: of the mesh behind it; None for a mesh that hangs.
    mesh_results: in its answers."""

    name: str
    proxied: bool
    attack: Calls | Streams | None
    mesh_delay_s: float | None = 0.0
    mesh_results: int = 20


def cases() -> Sequence[Case]:
    """All attacks. `proxied`: on a server in front of a mesh, otherwise on a server alone."""
    return (
        Case("mesh hangs, deadlines of 60 s", True, Calls(plain, 120, 60), None),
        Case("mesh hangs, no deadlines", True, Calls(plain, 120, None), None),
        Case("mesh takes 2 s", True, Calls(plain, 120, 60), 2.0),
        Case("unpacked fields, 4 MB", True, Calls(unpacked, 8, 10, 48)),
        Case("10,000 idle reflection streams", True, Streams(REFLECTION, 10_000, 2000, 20)),
        Case("10,000 health watches", False, Streams(WATCH, 10_000, 2000, 20, bytes, end=True)),
        Case("calls without a message", False, Streams(RETRIEVE, 2000, 200, 10)),
        Case("health checks without a message", True, Streams(HEALTH, 2000, 200, 10)),
        Case("answers that nobody reads", False, Streams(RETRIEVE, 300, 15, 10, large, end=True, window=0)),
        Case(
            "answers of the mesh that nobody reads",
            True,
            Streams(RETRIEVE, 1000, 60, 10, plain, end=True, window=0),
            mesh_results=MOST_RESULTS,
        ),
        Case(
            "answers that nobody reads, cancelled",
            False,
            Streams(RETRIEVE, 1000, 100, 10, medium, end=True, window=0, cancel_after_s=0.5),
        ),
        Case("calls cancelled after 20 ms", False, Calls(medium, 150, 0.02)),
        Case("heavy valid requests", False, Calls(at_least, 30, 10, 16)),
        Case("features map of 3.1 MB", False, Calls(features, 8, 10, 48)),
        Case("99,000 exists", False, Calls(exists, 10, 10, 48)),
    )


CONTROL = Case("no attack", False, None)


class Attacker:
    """The process of a case; last in line for the processor, so that its own cost starves no caller."""

    def __init__(self, case: Case, address: str, world: World, seconds: float) -> None:
        self._generator: Generator | None = None
        self._streams: Signalled | None = None
        attack = case.attack
        if isinstance(attack, Calls):
            file = write_messages(world.home / "attack.messages", [attack.message()])
            phases = [Phase(attack.rate_hz, seconds, attack.timeout_s)]
            stream = Stream(
                "attack",
                address,
                attack.method,
                file,
                phases,
                channels=attack.channels,
                most_under_way=attack.most,
            )
            self._generator = Generator([stream], drain_s=0.1, priority=LAST)
        elif attack is not None:
            message = None if attack.message is None else attack.message().hex()
            plan = {"address": address, "seconds": seconds, "priority": LAST, "message": message}
            self._streams = Signalled(ATTACK, vars(attack) | plan)

    def start(self) -> None:
        for process in (self._generator, self._streams):
            if process is not None:
                process.start()

    def results(self) -> dict[str, Any]:
        """Waits for its end; returns its calls or streams and the cores that it took."""
        if self._generator is not None:
            codes = self._generator.calls()["attack"].codes()
            cost = self._generator.cost
            return {"codes": codes, "cores": cost.cpu_s / cost.wall_s}
        if self._streams is not None:
            told = self._streams.results()
            return {"streams": told, "cores": told["cpu_s"] / told["wall_s"]}
        return {"cores": 0.0}

    def close(self) -> None:
        if self._generator is not None:
            self._generator.__exit__(None, None, None)
        if self._streams is not None:
            self._streams.close()


def plain() -> bytes:
    """An ordinary request."""
    return _bytes(_request(20))


def large() -> bytes:
    """A small request with an answer of most results."""
    return _bytes(_request(MOST_RESULTS))


def medium() -> bytes:
    return _bytes(_request(1000))


def at_least() -> bytes:
    """Valid, and as much work as a request may be."""
    request = _request(MOST_RESULTS)
    some = request.filter.at_least
    some.count = 100
    for number in range(500):
        part = some.filters.add()
        part.range.field = "price"
        part.range.min = number / 10
    return _bytes(request)


def features() -> bytes:
    """More features than a request may have, in 3.1 MB."""
    request = _request(20)
    value = types_pb2.FeatureValue(ints=types_pb2.IntList(values=[1]))
    for number in range(124_000):
        request.user.features[f"feature-{number:06}"].CopyFrom(value)
    return _bytes(request)


def exists() -> bytes:
    """More parts of a filter than it may have, four bytes each."""
    request = _request(20)
    parts = request.filter.any.filters
    for _ in range(99_000):
        parts.add().exists.SetInParent()
    return _bytes(request)


def unpacked() -> bytes:
    """Excluded items, a field of two bytes each; the surface comes last."""
    surface = _bytes(pb.RetrieveRequest(surface=ATTACKED, max_results=20))
    return b"\x30\x01" * (MESSAGE_BYTES // 2) + surface


def _bytes(request: pb.RetrieveRequest) -> bytes:
    message: bytes = request.SerializeToString()
    return message


def _request(results: int) -> pb.RetrieveRequest:
    return pb.RetrieveRequest(
        surface=ATTACKED, max_results=results, user={"user_id": 7, "history": list(range(1, 21))}
    )
