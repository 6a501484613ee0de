"""The durable state of a ramp: each surface's status, and the decision that led to it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from meshfold.compat.ramp.audit_log import AuditEntry, AuditLog
from meshfold.compat.ramp.status import Status
from meshfold.compat.ramp.steps import mode_of
from meshfold.model.errors import InvalidConfig
from meshfold.service.state import open_state
from meshfold.service.state_kind import Shared, StateKind

_FORMAT = 1
_REMEDY = "put back a copy, or remove it, switch the surfaces to mirror and begin again"


@dataclass(frozen=True)
class SurfaceState:
    """decision: the latest. in_effect: whether the decided mode has been seen on all servers.

    overrules: changes of modes by others that the decision may replace, those in effect when an operator decided.
    """

    status: Status
    decision: AuditEntry
    in_effect: bool
    overrules: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RampState:
    """ramp: its random name. decisions: number of decisions. generation: number of writes."""

    ramp: str
    decisions: int = 0
    generation: int = 0
    surfaces: Mapping[str, SurfaceState] = field(default_factory=dict)

    @property
    def entries(self) -> list[AuditEntry]:
        return [own.decision for own in self.surfaces.values()]


def _encode(state: RampState) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "generation": state.generation,
        "ramp": state.ramp,
        "decisions": state.decisions,
        "surfaces": [
            {
                "status": own.status.to_json(),
                "decision": own.decision.to_json(),
                "in_effect": own.in_effect,
                "overrules": sorted(own.overrules),
            }
            for _, own in sorted(state.surfaces.items())
        ],
    }


def _decode(found: Any) -> RampState:
    """Raises ValueError."""
    try:
        if found["format"] != _FORMAT:
            raise ValueError(f"its format is {found['format']}, and {_FORMAT} is known")
        surfaces = [
            SurfaceState(
                Status.from_json(own["status"]),
                AuditEntry.from_json(own["decision"]),
                bool(own["in_effect"]),
                frozenset(map(str, own["overrules"])),
            )
            for own in found["surfaces"]
        ]
        for own in surfaces:
            if not own.in_effect:
                mode_of(own.status.mode)
        by_name = {own.status.surface: own for own in surfaces}
        return RampState(str(found["ramp"]), int(found["decisions"]), int(found["generation"]), by_name)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"no state of a ramp: {type(error).__name__} {error}") from None


RAMP = StateKind(noun="ramp", remedy=_REMEDY, encode=_encode, decode=_decode, most_bytes=16 << 20)

# Returns a surface's next state with its decision, without number and ramp; None for no decision.
Decide = Callable[[SurfaceState | None], SurfaceState | None]


class _Unchanged(Exception):
    """Raised to write nothing."""


class RampStore:
    """State and audit log as one: a decision is in both, durably, before decide() returns.

    The state is written first. An entry that a kill kept out of the log is added before the next decision.
    """

    def __init__(self, state: str, log: Path) -> None:
        """state: a file, or a URL of Redis."""
        self._states: Shared[RampState] = open_state(state, RAMP, copies=log.parent / "copies")
        self.log = AuditLog(log)

    @property
    def name(self) -> str:
        return self._states.name

    def read(self) -> RampState | None:
        """Raises InvalidConfig."""
        return self._states.read()

    def catch_up(self) -> None:
        """Adds missing decisions to the log. Raises NotDurable, InvalidConfig."""
        if (state := self.read()) is not None:
            self.log.catch_up(state.entries)

    def decide(self, surface: str, decide: Decide) -> SurfaceState | None:
        """Makes a decision. Returns the surface's state after it; None if there was none to make.

        decide: gets the state at the moment of the write, with decisions made meanwhile; may be called several times.
        Raises NotDurable, InvalidConfig: then the decision may be in the state and not in the log, and no mode may
        follow it yet.
        """
        self.catch_up()

        def change(found: RampState | None) -> RampState:
            state = found or self._new()
            own = decide(state.surfaces.get(surface))
            if own is None:
                raise _Unchanged
            # A restored copy of the state may have fewer decisions than the log.
            number = max(state.decisions, self._last_number(state.ramp)) + 1
            numbered = replace(own, decision=replace(own.decision, number=number, ramp=state.ramp))
            return RampState(state.ramp, number, state.generation + 1, {**state.surfaces, surface: numbered})

        try:
            state = self._states.change(change)
        except _Unchanged:
            return None
        self.log.catch_up(state.entries)
        return state.surfaces[surface]

    def note(self, surface: str, decision: int, note: Callable[[SurfaceState], SurfaceState]) -> bool:
        """Writes a note on a decision. Returns whether the surface still stands by the decision of that number.

        Raises NotDurable, InvalidConfig.
        """

        def change(state: RampState | None) -> RampState:
            own = None if state is None else state.surfaces.get(surface)
            if state is None or own is None or own.decision.number != decision:
                raise _Unchanged
            return replace(
                state, generation=state.generation + 1, surfaces={**state.surfaces, surface: note(own)}
            )

        try:
            self._states.change(change)
        except _Unchanged:
            return False
        return True

    def _new(self) -> RampState:
        """A state without surfaces. Numbers go on after those of a log that has lost its state."""
        return RampState(secrets.token_hex(4), self._last_number())

    def _last_number(self, ramp: str | None = None) -> int:
        """Number of the log's latest entry. Raises InvalidConfig."""
        try:
            return self.log.last_number(ramp)
        except OSError as error:
            raise InvalidConfig(f"the audit log {self.log.path} cannot be read: {error.strerror}") from None
