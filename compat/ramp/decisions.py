"""Decisions about a surface: from its state before to its state after. Nothing here is written or switched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from meshfold.compat.gate.verdict import Verdict
from meshfold.compat.migration.modes import Change, Mode
from meshfold.compat.ramp.audit_log import Action, AuditEntry, By
from meshfold.compat.ramp.ramp_state import SurfaceState
from meshfold.compat.ramp.status import State, Status
from meshfold.compat.ramp.steps import MESH, share_of, step_of

# Reasons of a verdict named in a sentence.
_MOST_REASONS = 3


@dataclass(frozen=True)
class Judged:
    """The evidence of a decision of the gate. served_users, causes: as in AuditEntry."""

    verdict: Verdict
    served_users: int
    causes: Mapping[str, int]


def change_key(change: Change) -> str:
    """A text that identifies a change of a mode."""
    return f"{change.unix_ms} {change.mode} {change.who}"


def why_of(verdict: Verdict) -> str:
    """The reasons for the verdict, as one sentence."""
    sentences = [reason.sentence for reason in verdict.reasons if reason.decision is verdict.decision]
    more = len(sentences) - _MOST_REASONS
    return "; ".join(sentences[:_MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")


def step_below(steps: Sequence[str], modes: Iterable[Mode]) -> int:
    """The highest step that shows the model to no more users than any of the modes; the first if there is none."""
    share = min((share_of(mode) for mode in modes), default=0.0)
    return max((i for i, step in enumerate(steps) if share_of(step_of(step)) <= share), default=0)


def begun(
    surface: str, steps: tuple[str, ...], changes: Sequence[Change], who: str, now_ms: int
) -> SurfaceState:
    """The state at the first step. changes: those in effect on the servers."""
    before = str(changes[0].mode) if changes else MESH
    why = "the ramp begins, and in its first step the mesh answers all users"
    status = Status(surface, 0, steps, str(step_of(steps[0])), State.RUNNING, reason=why)
    decision = AuditEntry(0, "", now_ms, surface, 0, Action.START, before, status.mode, By.OPERATOR, who, why)
    return SurfaceState(status, decision, False, frozenset(map(change_key, changes)))


def promoted(own: SurfaceState, judged: Judged, now_ms: int) -> SurfaceState:
    """The state at the next step."""
    step = own.status.step + 1
    decided = _decided(own, Action.PROMOTE, By.GATE, "", why_of(judged.verdict), now_ms, judged)
    return _moved(decided, step, str(step_of(own.status.steps[step])), State.RUNNING)


def fallen_back(own: SurfaceState, judged: Judged, now_ms: int) -> SurfaceState:
    """The state at the first step, in which the mesh answers all users.

    Nothing is switched if the surface stands at that step.
    """
    decided = _decided(own, Action.FALL_BACK, By.GATE, "", why_of(judged.verdict), now_ms, judged)
    if own.status.step == 0:
        return replace(decided, status=replace(decided.status, state=State.FALLEN_BACK))
    return _moved(decided, 0, str(step_of(own.status.steps[0])), State.FALLEN_BACK)


def done(own: SurfaceState, judged: Judged, now_ms: int) -> SurfaceState:
    decided = _decided(own, Action.DONE, By.GATE, "", why_of(judged.verdict), now_ms, judged)
    return replace(decided, status=replace(decided.status, state=State.DONE))


def held(own: SurfaceState, judged: Judged, now_ms: int) -> SurfaceState:
    return _decided(own, Action.HOLD, By.GATE, "", why_of(judged.verdict), now_ms, judged)


def restarted(own: SurfaceState, why: str, now_ms: int, hold_until_ms: int) -> SurfaceState:
    """The state with the step's evidence begun anew."""
    decided = _decided(own, Action.RESTART, By.GATE, "", why, now_ms)
    status = replace(decided.status, since_unix_ms=now_ms, hold_until_unix_ms=hold_until_ms, verdict=None)
    return replace(decided, status=status)


def stopped_by_hand(own: SurfaceState, change: Change, now_ms: int) -> SurfaceState:
    """The state after a switch by hand, which pauses the ramp."""
    mode = str(change.mode)
    who = change.who or "nobody known"
    how = " (kill)" if change.kill else ""
    detail = f": {change.why}" if change.why else ""
    why = f"the mode was changed to {mode} by {who}{how}{detail}"
    decided = _decided(own, Action.PAUSE, By.OPERATOR, who, why, now_ms, after=mode)
    status = replace(decided.status, mode=mode, state=State.PAUSED, reason=f"paused: {why}")
    return replace(decided, status=status, in_effect=True)


def paused(own: SurfaceState, who: str, why: str, now_ms: int) -> SurfaceState:
    decided = _decided(own, Action.PAUSE, By.OPERATOR, who, why, now_ms)
    reason = f"paused by {who}{': ' + why if why else ''}"
    return replace(decided, status=replace(decided.status, state=State.PAUSED, reason=reason))


def resumed(own: SurfaceState, changes: Sequence[Change], who: str, why: str, now_ms: int) -> SurfaceState:
    """The state at the step of the modes in effect, or the step below; its evidence begins anew."""
    step = step_below(own.status.steps, [change.mode for change in changes])
    decided = _decided(own, Action.RESUME, By.OPERATOR, who, why, now_ms)
    moved = _moved(decided, step, str(step_of(own.status.steps[step])), State.RUNNING)
    return replace(moved, overrules=frozenset(map(change_key, changes)))


def overridden(
    own: SurfaceState, step: int, changes: Sequence[Change], who: str, why: str, now_ms: int
) -> SurfaceState:
    """The state at the step that an operator names, whatever the gate says."""
    decided = _decided(own, Action.OVERRIDE, By.OPERATOR, who, why, now_ms)
    moved = _moved(decided, step, str(step_of(own.status.steps[step])), State.RUNNING)
    return replace(moved, overrules=frozenset(map(change_key, changes)))


def aborted(own: SurfaceState, who: str, why: str, now_ms: int) -> SurfaceState:
    """The state after the end of the ramp: the mesh answers."""
    decided = _decided(own, Action.ABORT, By.OPERATOR, who, why, now_ms)
    return _moved(decided, 0, MESH, State.ABORTED)


def _decided(
    own: SurfaceState,
    action: Action,
    by: By,
    who: str,
    why: str,
    now_ms: int,
    judged: Judged | None = None,
    after: str = "",
) -> SurfaceState:
    """The state after another decision. The store fills in number and ramp."""
    status = own.status
    entry = AuditEntry(
        0,
        "",
        now_ms,
        status.surface,
        status.step,
        action,
        status.mode,
        after or status.mode,
        by,
        who,
        why,
        None if judged is None else judged.verdict.to_json(),
        0 if judged is None else judged.served_users,
        {} if judged is None else judged.causes,
    )
    verdict = status.verdict if judged is None else judged.verdict
    status = replace(status, verdict=verdict, reason=why or action.value)
    return replace(own, status=status, decision=entry)


def _moved(own: SurfaceState, step: int, mode: str, state: State) -> SurfaceState:
    """The state at another step, whose mode is not in effect yet."""
    status = replace(own.status, step=step, mode=mode, state=state, since_unix_ms=0, hold_until_unix_ms=0)
    return SurfaceState(status, replace(own.decision, step=step, after=mode), False)
