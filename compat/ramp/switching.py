"""Puts a decided mode in effect on all servers, and finds modes that were switched by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshfold.compat.migration.modes import MOST_CHARACTERS, Change
from meshfold.compat.ramp.audit_log import Action, tag_of
from meshfold.compat.ramp.decisions import change_key
from meshfold.compat.ramp.ramp_state import SurfaceState
from meshfold.compat.ramp.servers import WHO, Look, Servers
from meshfold.compat.ramp.steps import mode_of


@dataclass(frozen=True)
class Switched:
    """The servers after a switch. by_hand: a change by somebody else, which takes precedence; None if there is none.

    troubles: of servers on which the mode is not in effect, or not known.
    """

    by_hand: Change | None
    troubles: tuple[str, ...]

    @property
    def in_effect(self) -> bool:
        return self.by_hand is None and not self.troubles


def seen(own: SurfaceState, looks: Mapping[str, Look]) -> Switched:
    """Whether the mode that was put in effect is still in effect."""
    troubles = []
    for look in looks.values():
        change = look.change(own.status.surface)
        if change is None:
            troubles.append(look.trouble)
        elif not (_is_ours(own, change) and str(change.mode) == own.status.mode):
            return Switched(change, ())
    return Switched(None, tuple(troubles))


def put_in_effect(own: SurfaceState, looks: Mapping[str, Look], servers: Servers) -> Switched:
    """Switches the servers on which the decision is not in effect.

    A server with a change by hand that the decision does not overrule keeps its mode; then no server is switched.
    """
    surface = own.status.surface
    waiting = []
    troubles = []
    for look in looks.values():
        change = look.change(surface)
        if change is None:
            troubles.append(look.trouble)
        elif _follows(own, change):
            continue
        elif not _may_replace(own, change):
            return Switched(change, ())
        else:
            waiting.append(look)
    why = f"{own.decision.tag} {own.status.reason}"[:MOST_CHARACTERS]
    for look in waiting:
        after = servers.switch(look, surface, mode_of(own.status.mode), why)
        change = after.change(surface)
        if change is None or not _follows(own, change):
            troubles.append(after.trouble or f"{look.address} was changed meanwhile")
    return Switched(None, tuple(troubles))


def _follows(own: SurfaceState, change: Change) -> bool:
    """Whether the change puts the decision in effect."""
    if str(change.mode) != own.status.mode:
        return False
    return own.decision.action is Action.ABORT or (
        change.who == WHO and change.why.startswith(own.decision.tag)
    )


def _may_replace(own: SurfaceState, change: Change) -> bool:
    if own.decision.action is Action.ABORT:
        return True
    return _is_ours(own, change) or change_key(change) in own.overrules


def _is_ours(own: SurfaceState, change: Change) -> bool:
    """Whether a decision of this ramp made the change."""
    return change.who == WHO and change.why.startswith(tag_of(own.decision.ramp))
