"""In front of the mesh: every call of the orchestrator goes to the side that its surface's mode says."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import grpc
import grpc.aio

from meshfold.compat.migration.breaker import DOWN
from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.modes import Kind, Mode
from meshfold.compat.migration.outcome import Answered, Call, Errors, Observer, Outcome
from meshfold.compat.migration.shadow import Shadow, ShadowSettings
from meshfold.compat.migration.sides import (
    ANSWERED_BY,
    FALLBACK,
    Mesh,
    Metadata,
    Model,
    Request,
    Side,
    passed_back,
    passed_on,
)
from meshfold.compat.migration.stickiness import chosen
from meshfold.compat.migration.wire_scan import Scanned, scan
from meshfold.model.errors import Overloaded

# The label of surfaces that nobody serves and no mode names: callers must not be able to make up names.
OTHER = "other"


@dataclass(frozen=True)
class ProxySettings:
    """fallback: whether the model may answer where the mesh is down. first_share: of the time left to a call, the
    part that the side asked first has where the other could still answer."""

    fallback: bool
    first_share: float
    shadow: ShadowSettings


class Proxy:
    """The Answer of the orchestrator's call. Bytes go through unparsed; errors are those of the side that failed."""

    def __init__(
        self,
        model: Model,
        mesh: Mesh,
        switch: ModeSwitch,
        served: Callable[[], Collection[str]],
        settings: ProxySettings,
        observer: Observer,
        errors: Errors,
    ) -> None:
        """served: the surfaces that the model serves now."""
        self._switch = switch
        self._served = served
        self._settings = settings
        self._observer = observer
        self._errors = errors
        self._mesh = mesh
        self._sides: Mapping[Side, Mesh | Model] = {Side.MESH: mesh, Side.MODEL: model}
        self._last_s = -math.inf
        self._numbers = itertools.count()
        self.shadow = Shadow(self._sides, settings.shadow, observer, errors)

    async def start(self) -> None:
        self._mesh.connect()
        self.shadow.start()

    async def stop(self, grace_s: float) -> None:
        await self.shadow.stop(grace_s)
        await self._mesh.close()

    def quiet_s(self) -> float:
        """Seconds since the last call came; inf where none did."""
        return time.monotonic() - self._last_s

    async def __call__(self, call: Call) -> bytes:
        start_s = self._last_s = time.monotonic()
        message = call.message
        scanned = scan(message)
        surface, label = self._surface(scanned)
        mode = self._switch.current.of(surface)
        first = _first(mode, surface, scanned, message)
        request = Request(message, label, passed_on(call.metadata), call.deadline_s)

        def answered(outcome: Outcome, fallback: str) -> Answered:
            took_s = time.monotonic() - start_s
            told = Answered(next(self._numbers), label, mode, message, outcome, fallback, took_s)
            self._observer.answered(told)
            return told

        try:
            outcome, error, fallback = await self._answer(first, mode, request)
        except asyncio.CancelledError:
            answered(Outcome(first, None, grpc.StatusCode.CANCELLED, time.monotonic() - start_s), "")
            raise
        told = answered(outcome, fallback)
        if _shadowed(mode, outcome):
            self.shadow.offer(told, request.metadata)
        return _give(call, outcome, error, fallback)

    async def _answer(
        self, first: Side, mode: Mode, request: Request
    ) -> tuple[Outcome, Exception | None, str]:
        """The call's outcome, its error, and the status of the side asked first where that failed."""
        may_follow = self._may_follow(first, mode)
        outcome, error = await self._ask(first, self._bounded(request) if may_follow else request)
        if error is None or not may_follow or not _could_not(outcome, error, request):
            return outcome, error, ""
        second, second_error = await self._ask(first.other, request)
        if second_error is not None and not _tells_more(second):
            return outcome, error, ""
        if outcome.side is Side.MODEL and outcome.code is grpc.StatusCode.INTERNAL:
            self._errors.log_failure("the model failed, and the mesh was asked", error)
        return second, second_error, outcome.code.name

    def _surface(self, scanned: Scanned | None) -> tuple[str, str]:
        """The surface's name, "" where none is known, and its label."""
        served = self._served()
        name = scanned.surface if scanned is not None else ""
        if not name and len(served) == 1:
            name = next(iter(served))
        known = name in served or name in self._switch.current.surfaces
        return name, name if known else OTHER

    def _may_follow(self, first: Side, mode: Mode) -> bool:
        """Whether the other side is asked where the first fails."""
        return self._settings.fallback if first is Side.MESH else mode.kind is not Kind.ONLY

    def _bounded(self, request: Request) -> Request:
        """Leaves time for the other side."""
        now_s = time.monotonic()
        share_s = (request.deadline_s - now_s) * self._settings.first_share
        return replace(request, deadline_s=now_s + share_s)

    async def _ask(self, side: Side, request: Request) -> tuple[Outcome, Exception | None]:
        """What became of it, and the error where it failed."""
        start_s = time.monotonic()
        try:
            reply = await self._sides[side].ask(request)
        except Exception as error:
            code = self._errors.code_of(error)
            return Outcome(side, None, code, time.monotonic() - start_s), error
        return Outcome(side, reply, grpc.StatusCode.OK, time.monotonic() - start_s), None


def _first(mode: Mode, surface: str, scanned: Scanned | None, message: bytes) -> Side:
    """The side that is asked first."""
    match mode.kind:
        case Kind.MESH | Kind.MIRROR:
            return Side.MESH
        case Kind.SERVE | Kind.ONLY:
            return Side.MODEL
        case Kind.CANARY:
            return Side.MODEL if chosen(mode.percent, surface, scanned, message) else Side.MESH


def _could_not(first: Outcome, error: Exception, request: Request) -> bool:
    """Whether a failure is one after which the other side is asked: of the model any, of the mesh that it is down.

    The mesh's other statuses are its answer. CANCELLED is a mesh that stops: a caller that leaves ends all of it.
    """
    if request.deadline_s <= time.monotonic():
        return False
    # Overloaded: too many calls wait for the mesh, so that it was not asked.
    return first.side is Side.MODEL or first.code in DOWN or isinstance(error, Overloaded)


def _tells_more(second: Outcome) -> bool:
    """Where both failed: whether the caller gets the second's status. The mesh's counts, unless it was not there."""
    return second.side is Side.MESH and second.code not in DOWN


def _shadowed(mode: Mode, answered: Outcome) -> bool:
    return (mode.kind is Kind.MIRROR and answered.side is Side.MESH) or (
        mode.kind is Kind.SERVE and answered.side is Side.MODEL
    )


def _give(call: Call, outcome: Outcome, error: Exception | None, fallback: str) -> bytes:
    """The answer's bytes, with its metadata. Raises the error."""
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
