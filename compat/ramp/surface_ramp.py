"""One surface's ramp: a verdict leads to a decision, the decision is written, and the mode follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from meshfold.compat.gate.verdict import Decision, Verdict
from meshfold.compat.migration.modes import Change, Kind
from meshfold.compat.ramp import decisions
from meshfold.compat.ramp.audit_log import LAST_UNIX_MS
from meshfold.compat.ramp.causes import Causes
from meshfold.compat.ramp.decisions import Judged
from meshfold.compat.ramp.evidence import Evidence
from meshfold.compat.ramp.plan import Plan
from meshfold.compat.ramp.ramp_state import Decide, RampStore, SurfaceState
from meshfold.compat.ramp.servers import Look, Servers
from meshfold.compat.ramp.status import State
from meshfold.compat.ramp.switching import Switched, put_in_effect, seen
from meshfold.compat.shadow.pairs import Pair
from meshfold.model.errors import InvalidConfig, Unprepared


class SurfaceRamp:
    """One surface's ramp. For one thread.

    It holds the evidence alone, which is read again after a kill; the store has the rest.
    """

    def __init__(
        self,
        plan: Plan,
        surface: str,
        store: RampStore,
        servers: Servers,
        causes: Causes,
        now_ms: Callable[[], int],
    ) -> None:
        self._plan = plan
        self._surface = surface
        self._store = store
        self._servers = servers
        self._causes = causes
        self._now_ms = now_ms
        self._evidence: Evidence | None = None
        # Step and start time of that evidence.
        self._evidence_of = (-1, -1)
        self._troubles: tuple[str, ...] = ()
        # Start time and names of reasons of the latest hold in the log.
        self._held: tuple[int, tuple[str, ...]] | None = None

    @property
    def state(self) -> SurfaceState:
        """The stored state, which operators' commands change, too."""
        state = self._store.read()
        if state is None or self._surface not in state.surfaces:
            raise InvalidConfig(
                f"{self._store.name} has no entry of {self._surface!r} any more; put back a copy, or "
                "switch the surface to mirror and begin again"
            )
        return state.surfaces[self._surface]

    @property
    def is_over(self) -> bool:
        own = self.state
        return own.status.state.is_over and own.in_effect

    def begin(self, looks: Mapping[str, Look], who: str) -> None:
        """Decides to start, if the store has no ramp of the surface.

        Raises InvalidConfig if the stored ramp has steps that the plan lacks, Unprepared if the model answers users
        already.
        """
        state = self._store.read()
        kept = None if state is None else state.surfaces.get(self._surface)
        if kept is not None:
            self._check_plan(kept)
            return
        changes = _changes(looks, self._surface)
        for change in changes:
            if change.mode.kind not in (Kind.MESH, Kind.MIRROR):
                raise Unprepared(
                    f"{self._surface!r} is in {change.mode} by {change.who or 'an unknown operator'}, and a ramp "
                    f"begins while the mesh answers: `meshfold mode {self._surface} mirror` goes there"
                )
        steps = tuple(map(str, self._plan.steps))
        self._decide(
            None,
            lambda kept: (
                None if kept else decisions.begun(self._surface, steps, changes, who, self._now_ms())
            ),
        )

    def follow(self, looks: Mapping[str, Look]) -> None:
        """Puts the latest decision in effect, or pauses after a switch by hand."""
        own = self.state
        if own.status.state is State.PAUSED or (own.status.state.is_over and own.in_effect):
            self._troubles = ()
            return
        found = seen(own, looks) if own.in_effect else put_in_effect(own, looks, self._servers)
        self._troubles = found.troubles
        if found.by_hand is not None:
            self._stop_by_hand(own, found)
        elif found.in_effect and not own.in_effect:
            now_ms = self._now_ms()
            hold_until_ms = now_ms + self._hold_ms(own.status.step)

            def note(kept: SurfaceState) -> SurfaceState:
                status = replace(kept.status, since_unix_ms=now_ms, hold_until_unix_ms=hold_until_ms)
                return replace(kept, in_effect=True, status=status)

            self._store.note(self._surface, own.decision.number, note)
        elif not own.in_effect:
            troubles = "; ".join(found.troubles)
            self._note(own, None, f"{own.status.mode} is not in effect on all servers yet: {troubles}")

    def take(self, pairs: Sequence[Pair]) -> None:
        """Adds new pairs to the evidence."""
        own = self.state
        if not own.in_effect or own.status.state.is_over:
            return
        evidence = self._evidence_for(own)
        before = evidence.version
        other = evidence.add(pairs)
        if other:
            why = f"the model answers with version {other} and no longer with {before}: evidence begins anew"
            now_ms = self._now_ms()
            hold_until_ms = now_ms + self._hold_ms(own.status.step)
            self._decide(own, lambda kept: decisions.restarted(own, why, now_ms, hold_until_ms))

    def judge(self) -> None:
        """Promotes, falls back or holds, by the gate's verdict."""
        own = self.state
        if not own.in_effect or own.status.state.is_over:
            return
        evidence = self._evidence_for(own)
        judged, now_ms = evidence.judged(), self._now_ms()
        verdict = None if judged is None else judged.verdict
        if judged is None or verdict is None or own.status.state is not State.RUNNING:
            self._note(own, verdict, evidence.trouble or self._without_pairs(own, evidence))
        elif verdict.decision is Decision.NO:
            self._decide(own, lambda kept: decisions.fallen_back(own, judged, now_ms))
        elif evidence.trouble or self._troubles or now_ms < own.status.hold_until_unix_ms:
            self._note(own, verdict, self._waits_for(own, verdict, evidence.trouble))
        elif verdict.decision is Decision.YES:
            is_last = own.status.step + 1 == len(own.status.steps)
            move = decisions.done if is_last else decisions.promoted
            self._decide(own, lambda kept: move(own, judged, now_ms))
        else:
            self._hold(own, judged, now_ms)

    def _hold(self, own: SurfaceState, judged: Judged, now_ms: int) -> None:
        """Logs a hold once for each set of reasons."""
        verdict = judged.verdict
        names = tuple(sorted(r.name for r in verdict.reasons if r.decision is verdict.decision))
        key = (own.status.since_unix_ms, names)
        if key != self._held:
            self._held = key
            self._decide(own, lambda kept: decisions.held(own, judged, now_ms))
        else:
            self._note(own, verdict, f"held: {decisions.why_of(verdict)}")

    def _stop_by_hand(self, own: SurfaceState, found: Switched) -> None:
        change, now_ms = found.by_hand, self._now_ms()
        assert change is not None
        if own.status.state.is_over:
            # After a fall back or an abort, an operator has switched the mode.
            self._store.note(self._surface, own.decision.number, lambda kept: replace(kept, in_effect=True))
        else:
            self._decide(own, lambda kept: decisions.stopped_by_hand(own, change, now_ms))

    def _decide(self, own: SurfaceState | None, decide: Decide) -> None:
        """Writes a decision. own: the state it was made from; another decision made meanwhile takes precedence."""
        number = None if own is None else own.decision.number

        def unless_outrun(kept: SurfaceState | None) -> SurfaceState | None:
            if (None if kept is None else kept.decision.number) != number:
                return None
            return decide(kept)

        self._store.decide(self._surface, unless_outrun)

    def _note(self, own: SurfaceState, verdict: Verdict | None, reason: str) -> None:
        """Writes verdict and reason for readers of the status; the reason of a pause stays."""
        status = replace(own.status, verdict=verdict or own.status.verdict)
        if own.status.state is State.RUNNING:
            status = replace(status, reason=reason)
        if status != own.status:
            self._store.note(self._surface, own.decision.number, lambda kept: replace(kept, status=status))

    def _waits_for(self, own: SurfaceState, verdict: Verdict, trouble: str) -> str:
        if trouble:
            return trouble
        if self._troubles:
            return f"held until all servers answer: {'; '.join(self._troubles)}"
        until = _moment(own.status.hold_until_unix_ms)
        return f"the gate says {verdict.decision.value}, and the step holds until {until}: {decisions.why_of(verdict)}"

    def _without_pairs(self, own: SurfaceState, evidence: Evidence) -> str:
        """The reason for having no pairs, with a remedy."""
        reason = f"no pairs to judge yet, of {_moment(own.status.since_unix_ms)} or later"
        if evidence.older:
            latest = _moment(evidence.latest_older_unix_ms)
            return (
                f"{reason}; {evidence.older:,} older ones came, the latest of {latest}: if no newer ones follow, "
                "compare the clocks of the servers and of this machine"
            )
        missing = [str(folder) for folder in self._plan.pairs if not folder.is_dir()]
        where = f"; {', '.join(missing)} is not there yet" if missing else ""
        return f"{reason}{where}; servers write them some seconds after the calls (comparison.folder)"

    def _evidence_for(self, own: SurfaceState) -> Evidence:
        key = (own.status.step, own.status.since_unix_ms)
        if self._evidence is None or key != self._evidence_of:
            self._evidence = Evidence(self._plan.gate, self._surface, own.status.since_unix_ms, self._causes)
            self._evidence_of = key
        return self._evidence

    def _hold_ms(self, step: int) -> int:
        return round(1000 * self._plan.hold_s[step])

    def _check_plan(self, kept: SurfaceState) -> None:
        """Raises InvalidConfig."""
        steps = tuple(map(str, self._plan.steps))
        if kept.status.steps != steps:
            raise InvalidConfig(
                f"{self._plan.file}: steps are {', '.join(steps)}, and {self._store.name} follows "
                f"{', '.join(kept.status.steps)}: put them back, or name another state for another plan"
            )


def _changes(looks: Mapping[str, Look], surface: str) -> list[Change]:
    return [change for look in looks.values() if (change := look.change(surface)) is not None]


def _moment(unix_ms: int) -> str:
    return datetime.fromtimestamp(min(unix_ms, LAST_UNIX_MS) / 1000, UTC).isoformat(" ", "seconds")
