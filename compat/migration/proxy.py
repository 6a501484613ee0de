"""The proxy: sends each call of mesh.v1 and of mapped methods to the side chosen by its surface's mode."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import grpc
import grpc.aio

from meshfold.compat.migration.breaker import DOWN
from meshfold.compat.migration.methods import METHODS, Method
from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.modes import Kind, Mode
from meshfold.compat.migration.shadow import Compare, Shadow, uncompared
from meshfold.compat.migration.sides import (
    ANSWERED_BY,
    FALLBACK,
    Mesh,
    Model,
    Request,
    passed_back,
    passed_on,
)
from meshfold.compat.migration.stickiness import chosen, shadowed
from meshfold.compat.migration.wire_scan import Scanned
from meshfold.model.errors import Overloaded
from meshfold.service.call import Answer, Call, Metadata
from meshfold.service.errors import code_of, log_failure
from meshfold.service.front import Answered, Observer, Outcome, Side
from meshfold.service.migration import MigrationConfig

# The label of surfaces that are not served and have no mode, since callers must not be able to invent labels.
OTHER = "other"
# Statuses of a model that does not serve a surface, so that it answers neither of two calls that belong together.
_MODEL_ABSENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)
_MESH_ABSENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class Proxy:
    """The answers of mesh.v1 and of mapped methods. Bytes are passed on unchanged, and so are the errors of a side."""

    def __init__(
        self,
        model: Model,
        mesh: Mesh,
        switch: ModeSwitch,
        served: Callable[[], Collection[str]],
        config: MigrationConfig,
        observer: Observer,
        canary_share: float = 0.0,
        compare: Compare = uncompared,
        methods: Sequence[Method] = METHODS,
    ) -> None:
        """served: returns the surfaces that the model serves now. canary_share: share of a canary's users whose calls
        also go to the other side. compare: called with each shadowed call. methods: methods that follow modes."""
        self._methods = methods
        self._switch = switch
        self._served = served
        self._config = config
        self._observer = observer
        self._canary_share = canary_share
        self._sides: Mapping[Side, Mesh | Model] = {Side.MESH: mesh, Side.MODEL: model}
        self._last_s = -math.inf
        self._numbers = itertools.count()
        self.shadow = Shadow(self._sides, config, observer, compare)
        # Number of calls that are neither shadowed nor recorded, by (method, side, code).
        self.others: Counter[tuple[str, str, str]] = Counter()

    @property
    def answers(self) -> dict[str, Answer]:
        """Answers by full name."""
        return {method.name: partial(self._answer, method) for method in self._methods}

    def start(self) -> None:
        """Starts the shadows. Runs on the loop."""
        self.shadow.start()

    async def stop(self, grace_s: float) -> None:
        await self.shadow.stop(grace_s)

    def quiet_s(self) -> float:
        """Seconds since the last call; inf where there was none."""
        return time.monotonic() - self._last_s

    async def _answer(self, method: Method, call: Call) -> bytes:
        start_s = self._last_s = time.monotonic()
        message = call.message
        metadata: Mapping[str, str] = {}
        if method.traffic is None:
            scanned = method.scan(message)
        else:
            metadata = method.traffic.metadata(call.metadata)
            scanned = method.scan(message, metadata)
        surface, label = self._surface(scanned)
        mode = self._switch.current.of(surface)
        first = _first(method, mode, surface, scanned, message)
        request = Request(method.name, message, label, passed_on(call.metadata), call.deadline_s)

        def answered(outcome: Outcome, failed: Outcome | None) -> Answered:
            fallback = failed.code.name if failed is not None else ""
            took_s = time.monotonic() - start_s
            told = Answered(
                *(next(self._numbers), label, str(mode), message, outcome, fallback, took_s),
                method=method.name if method.traffic is not None else "",
                metadata=metadata,
                request_id=scanned.request_id if scanned is not None else b"",
            )
            if method.is_observed:
                self._observer.answered(told)
            else:
                self.others[method.label, outcome.side.value, outcome.code.name] += 1
            return told

        try:
            outcome, error, failed = await self._ask_sides(method, first, mode, request)
        except asyncio.CancelledError:
            answered(Outcome(first, None, grpc.StatusCode.CANCELLED, time.monotonic() - start_s), None)
            raise
        told = answered(outcome, failed)
        if failed is not None:
            is_wanted = self._is_compared(mode, surface, scanned, message)
        else:
            is_wanted = self._is_shadowed(mode, told, surface, scanned)
        if is_wanted and method.can_be_shadowed(message, metadata):
            if failed is not None:
                self.shadow.compare(told, failed, request.metadata)
            else:
                self.shadow.offer(told, request.metadata)
        return _give(call, outcome, error, told.fallback)

    async def _ask_sides(
        self, method: Method, first: Side, mode: Mode, request: Request
    ) -> tuple[Outcome, Exception | None, Outcome | None]:
        """Calls one side, then the other if allowed: (the call's outcome, its error, the first side's outcome where it
        failed)."""
        may_follow = self._may_follow(first, mode)
        leaves_time = may_follow and method.stands_alone
        outcome, error = await self._ask(first, self._bounded(request) if leaves_time else request)
        if error is None or not may_follow or not _could_not(method, outcome, error, request):
            return outcome, error, None
        second, second_error = await self._ask(first.other, request)
        if second_error is not None and not _tells_more(second):
            return outcome, error, None
        if outcome.side is Side.MODEL and outcome.code is grpc.StatusCode.INTERNAL:
            log_failure("the model failed, and the mesh was asked", error)
        return second, second_error, outcome

    def _surface(self, scanned: Scanned | None) -> tuple[str, str]:
        """The surface's name ("" where unknown), and its label."""
        served = self._served()
        name = scanned.surface if scanned is not None else ""
        if not name and len(served) == 1:
            name = next(iter(served))
        known = name in served or name in self._switch.current.surfaces
        return name, name if known else OTHER

    def _is_shadowed(self, mode: Mode, answered: Answered, surface: str, scanned: Scanned | None) -> bool:
        """Whether to shadow a call; not where the other side has just failed it."""
        match mode.kind:
            case Kind.MIRROR:
                return answered.outcome.side is Side.MESH
            case Kind.SERVE:
                return answered.outcome.side is Side.MODEL
            case Kind.CANARY if not answered.fallback:
                return shadowed(self._canary_share, surface, scanned, answered.message)
        return False

    def _is_compared(self, mode: Mode, surface: str, scanned: Scanned | None, message: bytes) -> bool:
        """Whether to compare a call whose first side failed, so that both sides were called already."""
        if mode.kind is Kind.CANARY:
            return shadowed(self._canary_share, surface, scanned, message)
        return mode.kind in (Kind.MIRROR, Kind.SERVE)

    def _may_follow(self, first: Side, mode: Mode) -> bool:
        """Whether the other side is called where the first fails."""
        return self._config.fallback if first is Side.MESH else mode.kind is not Kind.ONLY

    def _bounded(self, request: Request) -> Request:
        """The request with a shorter deadline, which leaves time for the other side."""
        now_s = time.monotonic()
        share_s = (request.deadline_s - now_s) * self._config.first_share
        return replace(request, deadline_s=now_s + share_s)

    async def _ask(self, side: Side, request: Request) -> tuple[Outcome, Exception | None]:
        """Calls a side: (its outcome, its error where it failed)."""
        start_s = time.monotonic()
        try:
            reply = await self._sides[side].ask(request)
        except Exception as error:
            code = code_of(error)
            return Outcome(side, None, code, time.monotonic() - start_s), error
        return Outcome(side, reply, grpc.StatusCode.OK, time.monotonic() - start_s), None


def _first(method: Method, mode: Mode, surface: str, scanned: Scanned | None, message: bytes) -> Side:
    """The side to call first."""
    match mode.kind:
        case Kind.MESH | Kind.MIRROR:
            return Side.MESH
        case Kind.SERVE | Kind.ONLY:
            return Side.MODEL
        case Kind.CANARY if not method.stands_alone:
            return Side.MODEL if mode.percent == 100 else Side.MESH
        case Kind.CANARY:
            return Side.MODEL if chosen(mode.percent, surface, scanned, message) else Side.MESH


def _could_not(method: Method, first: Outcome, error: Exception, request: Request) -> bool:
    """Whether to call the other side after a failure: any failure of the model, or a mesh that is down.

    The mesh's other statuses are its answer. CANCELLED means a stopping mesh, since a caller that left ends the whole
    call.
    """
    if request.deadline_s <= time.monotonic():
        return False
    if not method.stands_alone:
        return first.code in (_MODEL_ABSENT if first.side is Side.MODEL else _MESH_ABSENT)
    # Overloaded: too many calls wait for the mesh, so that it was not called.
    return first.side is Side.MODEL or first.code in DOWN or isinstance(error, Overloaded)


def _tells_more(second: Outcome) -> bool:
    """Whether the caller gets the second side's status where both failed: the mesh's, unless it was unreachable."""
    return second.side is Side.MESH and second.code not in DOWN


def _give(call: Call, outcome: Outcome, error: Exception | None, fallback: str) -> bytes:
    """Returns the bytes of the answer and sets its metadata, or raises the error."""
    own: Metadata = ((ANSWERED_BY, outcome.side.value),)
    if fallback:
        own += ((FALLBACK, fallback.lower()),)
    if outcome.reply is not None:
        call.initial = outcome.reply.initial
        call.trailing = (*outcome.reply.trailing, *own)
        return outcome.reply.message
    assert error is not None
    if isinstance(error, grpc.aio.AioRpcError):
        call.initial = passed_back(error.initial_metadata())
        own = (*passed_back(error.trailing_metadata()), *own)
    call.trailing = own
    raise error
