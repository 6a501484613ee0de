"""Faults planted on either side, what a ramp must do about each, and pairs of answers that real servers gave.

Both sides are real services over real stores, as in benchmarks/shadow/faults.py. Each request is sent once in every
case. Latencies are drawn from the faster half of those without a fault, so that other work of the machine is no fault.
A slow model takes the mesh's time and 20 ms. Errors stand in place of answers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from benchmarks.shadow.fault_services import Services
from meshfold.compat.shadow.answers import answer_of
from meshfold.compat.shadow.comparison import Cause
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.protos.mesh.v1 import orchestrator_pb2

SLOW, ERRORS = "+20 ms", "0.5 % errors"
_SLOW_MS, _ERROR_RATE = 20.0, 0.005
Ask = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Planted:
    """side: "mesh", "model", or "" for none. reasons: of the gate, any of which stops the ramp; none where the ramp
    must reach its end. causes: any of which the audit log must name beside them. accepted: by the plan."""

    side: str
    fault: str
    reasons: frozenset[str] = frozenset()
    causes: frozenset[Cause] = frozenset()
    accepted: tuple[Cause, ...] = ()

    @property
    def name(self) -> str:
        name = f"{self.side}: {self.fault}" if self.side else "none"
        return f"{name}, accepted" if self.accepted else name

    @property
    def must_stop(self) -> bool:
        return bool(self.reasons)


def _stops(side: str, fault: str, reasons: Iterable[str], *causes: Cause) -> Planted:
    return Planted(side, fault, frozenset(reasons), frozenset(causes))


_OVERLAP = "overlap@100"
# The expected end of each fault. Answers do not show the faulty side where towers, score heads or the days of catalogs
# differ: the ramp stops and names the cause. Where the plan accepts the cause as the mesh's, the ramp goes on.
TABLE: tuple[Planted, ...] = (
    _stops("model", "missing", ["model_catalog"], Cause.MODEL_CATALOG),
    _stops("model", "not_ignored", ["violations", "model_filter"]),
    _stops("model", "shuffled", [_OVERLAP], Cause.MERGE),
    _stops("model", "stale", ["model_catalog", _OVERLAP], Cause.MODEL_CATALOG),
    _stops("model", "tower", [_OVERLAP], Cause.USER_VECTOR),
    _stops("model", "head", [_OVERLAP], Cause.SCORES),
    _stops("model", "fifth", [_OVERLAP], Cause.MODEL_ANN_MISS),
    _stops("model", SLOW, ["p99"]),
    _stops("model", ERRORS, ["errors"]),
    Planted("model", "float16"),
    Planted("mesh", "missing"),
    Planted("mesh", "not_ignored"),
    Planted("mesh", "fifth"),
    Planted("mesh", "float16"),
    Planted("mesh", "shuffled"),
    _stops("mesh", "stale", ["model_catalog", _OVERLAP], Cause.MODEL_CATALOG),
    _stops("mesh", "tower", [_OVERLAP], Cause.USER_VECTOR),
    _stops("mesh", "head", [_OVERLAP], Cause.SCORES),
    Planted("mesh", "stale", accepted=(Cause.MODEL_CATALOG,)),
    Planted("mesh", "tower", accepted=(Cause.USER_VECTOR,)),
    Planted("mesh", "head", accepted=(Cause.SCORES,)),
)
NONE = Planted("", "")


class Pools:
    """Pairs of each case, one a request, made at first use."""

    def __init__(self, services: Services, requests: Sequence[bytes]) -> None:
        self._services = services
        self._requests = requests
        self._clean: list[Pair] = []

    def clean(self) -> list[Pair]:
        """Pairs without a fault, with two answers of the mesh."""
        if not self._clean:
            mesh = self._services.mesh(frozenset()).ask
            model = self._services.model(frozenset())
            for message in self._requests[:50]:  # until both are warm
                mesh(message), model(message)
            self._clean = [
                replace(
                    _pair(message),
                    mesh=_timed(mesh, message),
                    model=_timed(model, message),
                    again=_timed(mesh, message),
                )
                for message in self._requests
            ]
        return self._clean

    def of(self, planted: Planted) -> list[Pair]:
        clean = self.clean()
        if not planted.side or planted.fault in (SLOW, ERRORS):
            # These faults fall on requests by chance; see asked().
            return clean
        faults = frozenset((planted.fault,))
        if planted.side == "model":
            ask = self._services.model(faults)
            return [replace(pair, model=answer_of(ask(pair.request))) for pair in clean]
        ask = self._services.mesh(faults).ask
        pairs = [replace(pair, mesh=answer_of(ask(pair.request))) for pair in clean]
        return [replace(pair, again=pair.mesh) for pair in pairs]


@dataclass(frozen=True)
class Latencies:
    """Latencies of each side's answers, in milliseconds."""

    mesh: list[float]
    model: list[float]

    @classmethod
    def of(cls, clean: Sequence[Pair]) -> Self:
        """The faster half of either side."""
        sides = (
            [_of(pair.mesh).latency_ms for pair in clean],
            [_of(pair.model).latency_ms for pair in clean],
        )
        return cls(*(sorted(side)[: max(1, len(side) // 2)] for side in sides))


def asked(pair: Pair, planted: Planted, latencies: Latencies, chance: random.Random) -> Pair:
    """The pair as it comes of another ask: with other latencies, and with what the fault does to it."""
    mesh_ms, model_ms = chance.choice(latencies.mesh), chance.choice(latencies.model)
    if planted.fault == SLOW:
        model_ms = chance.choice(latencies.mesh) + _SLOW_MS
    model = replace(_of(pair.model), latency_ms=model_ms)
    if planted.fault == ERRORS and chance.random() < _ERROR_RATE:
        model = SideAnswer((), status="INTERNAL", latency_ms=model_ms)
    return replace(pair, mesh=replace(_of(pair.mesh), latency_ms=mesh_ms), model=model)


def _pair(message: bytes) -> Pair:
    request = orchestrator_pb2.RetrieveRequest.FromString(message)
    return Pair(
        request.request_id,
        request.surface,
        user_key=f"user {request.user.user_id}",
        max_results=request.max_results,
        request=message,
    )


def _timed(ask: Ask, message: bytes) -> SideAnswer:
    start_s = time.perf_counter()
    answer = ask(message)
    return answer_of(answer, 1000 * (time.perf_counter() - start_s))


def _of(answer: SideAnswer | None) -> SideAnswer:
    assert answer is not None
    return answer
