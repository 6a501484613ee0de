"""In front of the mesh: every call of the orchestrator goes to the side that its surface's mode says."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import grpc

from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.modes import Kind, Mode
from meshfold.compat.migration.outcome import Answered, Errors, Observer, Outcome
from meshfold.compat.migration.shadow import Shadow, ShadowSettings
from meshfold.compat.migration.sides import (
    ANSWERED_BY,
    FALLBACK,
    Answer,
    Bounded,
    Caller,
    Mesh,
    Metadata,
    Model,
    Side,
    passed_back,
    passed_on,
)
from meshfold.compat.migration.stickiness import chosen
from meshfold.compat.migration.wire_scan import Scanned, scan

# The label of surfaces that nobody serves and no mode names: callers must not be able to make up names.
OTHER = "other"
# Of the mesh: there is nobody, it stops, or it does not answer in its time.
_DOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)


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
        model: Answer,
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
        self._sides: Mapping[Side, Mesh | Model] = {Side.MESH: mesh, Side.MODEL: Model(model)}
        self._last_s = -math.inf
        self._numbers = itertools.count()
        self.shadow = Shadow(self._sides, settings.shadow, observer, errors)

    def start(self) -> None:
        self.shadow.start()

    def stop(self, grace_s: float) -> None:
        self.shadow.stop(grace_s)
        self._mesh.close()

    def quiet_s(self) -> float:
        """Seconds since the last call came; inf where none did."""
        return time.monotonic() - self._last_s

    def __call__(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        start_s = self._last_s = time.monotonic()
        scanned = scan(message)
        surface, label = self._surface(scanned)
        mode = self._switch.current.of(surface)
        call = _Call(message, passed_on(context.invocation_metadata()), context)

        first = _first(mode, surface, scanned, message)
        may_follow = self._may_follow(first, mode)
        outcome, error = self._ask(first, call, bounded=may_follow)
        fallback = ""
        if error is not None and may_follow and _could_not(outcome, context):
            second, second_error = self._ask(first.other, call, bounded=False)
            if second_error is None or _tells_more(second):
                if outcome.side is Side.MODEL and outcome.code is grpc.StatusCode.INTERNAL:
                    self._errors.log_failure("the model failed, and the mesh was asked", error)
                fallback = outcome.code.name
                outcome, error = second, second_error

        answered = Answered(
            next(self._numbers), label, mode, message, outcome, fallback, time.monotonic() - start_s
        )
        self._observer.answered(answered)
        if _shadowed(mode, outcome):
            self.shadow.offer(answered, call.metadata)
        return _give(context, outcome, error, fallback)

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

    def _ask(self, side: Side, call: _Call, bounded: bool) -> tuple[Outcome, Exception | None]:
        """What became of it, and the error where it failed. bounded: leaves time for the other side."""
        start_s = time.monotonic()
        caller: Caller = call.context
        left_s = caller.time_remaining()
        if bounded and left_s < threading.TIMEOUT_MAX:
            caller = Bounded(caller, start_s + left_s * self._settings.first_share)
        try:
            reply = self._sides[side].ask(call.message, call.metadata, caller)
        except Exception as error:
            code = self._errors.code_of(error)
            return Outcome(side, None, code, time.monotonic() - start_s), error
        return Outcome(side, reply, grpc.StatusCode.OK, time.monotonic() - start_s), None


@dataclass(frozen=True)
class _Call:
    """A caller's request. metadata: as the mesh gets it."""

    message: bytes
    metadata: Metadata
    context: grpc.ServicerContext


def _first(mode: Mode, surface: str, scanned: Scanned | None, message: bytes) -> Side:
    """The side that is asked first."""
    match mode.kind:
        case Kind.MESH | Kind.MIRROR:
            return Side.MESH
        case Kind.SERVE | Kind.ONLY:
            return Side.MODEL
        case Kind.CANARY:
            return Side.MODEL if chosen(mode.percent, surface, scanned, message) else Side.MESH


def _could_not(first: Outcome, context: grpc.ServicerContext) -> bool:
    """Whether a failure is one after which the other side is asked: of the model any, of the mesh that it is down.

    The mesh's other statuses are its answer. CANCELLED is a mesh that stops, as long as the caller is there.
    """
    if not context.is_active() or context.time_remaining() <= 0:
        return False
    return first.side is Side.MODEL or first.code in _DOWN


def _tells_more(second: Outcome) -> bool:
    """Where both failed: whether the caller gets the second's status. The mesh's counts, unless it was not there."""
    return second.side is Side.MESH and second.code not in _DOWN


def _shadowed(mode: Mode, answered: Outcome) -> bool:
    return (mode.kind is Kind.MIRROR and answered.side is Side.MESH) or (
        mode.kind is Kind.SERVE and answered.side is Side.MODEL
    )


def _give(context: grpc.ServicerContext, outcome: Outcome, error: Exception | None, fallback: str) -> bytes:
    """The answer's bytes, with its metadata. Raises the error."""
    own: Metadata = ((ANSWERED_BY, outcome.side.value),)
    if fallback:
        own += ((FALLBACK, fallback.lower()),)
    if outcome.reply is not None:
        if outcome.reply.initial:
            context.send_initial_metadata(outcome.reply.initial)
        context.set_trailing_metadata((*outcome.reply.trailing, *own))
        return outcome.reply.message
    assert error is not None
    # Where the caller left, the mesh's call has none.
    if isinstance(error, grpc.Call) and context.is_active():
        if initial := passed_back(error.initial_metadata()):
            context.send_initial_metadata(initial)
        own = (*passed_back(error.trailing_metadata()), *own)
    context.set_trailing_metadata(own)
    raise error
