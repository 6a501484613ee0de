"""Decisions by operators. They are durable here; the ramp follows them, or this command if no ramp runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from meshfold.compat.migration.modes import Change
from meshfold.compat.ramp import decisions
from meshfold.compat.ramp.plan import Plan
from meshfold.compat.ramp.ramp_state import RampStore, SurfaceState
from meshfold.compat.ramp.servers import Look, Servers
from meshfold.compat.ramp.status import State
from meshfold.compat.ramp.steps import step_of
from meshfold.compat.ramp.switching import put_in_effect
from meshfold.model.errors import InvalidConfig, NotDurable, Unprepared

_Move = Callable[[SurfaceState], SurfaceState]


class Operators:
    """Actions of one command. who, why: are kept with each decision."""

    def __init__(self, plan: Plan, who: str, why: str) -> None:
        self._plan = plan
        self._who = who
        self._why = why
        self._store = RampStore(plan.state, plan.log)

    def pause(self, surface: str) -> SurfaceState:
        """Pauses the ramp: it changes nothing until it is resumed. Raises Unprepared if it does not run."""

        def move(own: SurfaceState) -> SurfaceState:
            self._expect(own, State.RUNNING)
            return decisions.paused(own, self._who, self._why, _now_ms())

        return self._decided(surface, move)

    def resume(self, surface: str) -> SurfaceState:
        """Resumes the ramp from the modes in effect."""
        changes = self._changes(surface)

        def move(own: SurfaceState) -> SurfaceState:
            self._expect(own, State.PAUSED, State.FALLEN_BACK, State.ABORTED)
            return decisions.resumed(own, changes, self._who, self._why, _now_ms())

        return self._decided(surface, move)

    def override(self, surface: str, step: str) -> SurfaceState:
        """Moves the ramp to a step of the plan, whatever the gate says."""
        try:
            place = self._plan.steps.index(step_of(step))
        except ValueError as error:
            steps = ", ".join(map(str, self._plan.steps))
            detail = f"{error}; " if "got" in str(error) or "only" in str(error) else ""
            raise InvalidConfig(
                f"{step!r} is none of the plan's steps: {detail}expected one of {steps}"
            ) from None
        changes = self._changes(surface)
        return self._decided(
            surface, lambda own: decisions.overridden(own, place, changes, self._who, self._why, _now_ms())
        )

    def abort(self, surface: str) -> tuple[SurfaceState, tuple[str, ...]]:
        """Ends the ramp: the mesh answers.

        Returns the servers on which that is not in effect yet, each with the reason. A running ramp goes on trying
        these servers.
        """
        own = self._decided(surface, lambda own: decisions.aborted(own, self._who, self._why, _now_ms()))
        servers = Servers(self._plan.servers)
        try:
            switched = put_in_effect(own, servers.look(), servers)
        finally:
            servers.close()
        if switched.in_effect:
            number = own.decision.number
            self._store.note(surface, number, lambda kept: replace(kept, in_effect=True))
        return own, switched.troubles

    def _decided(self, surface: str, move: _Move) -> SurfaceState:
        def decide(own: SurfaceState | None) -> SurfaceState:
            if own is None:
                raise Unprepared(
                    f"no ramp of {surface!r} has begun: `meshfold migrate {self._plan.file}` begins one"
                )
            return move(own)

        try:
            decided = self._store.decide(surface, decide)
        except (NotDurable, InvalidConfig) as error:
            raise NotDurable(
                f"{error}; `meshfold mode kill --address SERVER` stops a ramp without its state"
            ) from None
        assert decided is not None
        return decided

    def _changes(self, surface: str) -> list[Change]:
        """The changes in effect on all servers. Raises Unprepared if a server gives none."""
        servers = Servers(self._plan.servers)
        try:
            looks: Mapping[str, Look] = servers.look()
        finally:
            servers.close()
        silent = [look.trouble for look in looks.values() if look.shown is None]
        if silent:
            raise Unprepared(f"the mode in effect is not known on all servers: {'; '.join(silent)}")
        return [change for look in looks.values() if (change := look.change(surface)) is not None]

    def _expect(self, own: SurfaceState, *states: State) -> None:
        if own.status.state not in states:
            raise Unprepared(
                f"the ramp of {own.status.surface!r} is {own.status.state.value}, and must be "
                f"{' or '.join(state.value for state in states)} for that"
            )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
