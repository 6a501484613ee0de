"""A ramp that follows pairs which were made before, on their clock, and switches the modes of a running server."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.operators import mode_of as server_mode_of
from benchmarks.operators import set_mode
from benchmarks.ramp.planted import NONE, Latencies, Planted, asked
from meshfold.compat.migration.modes import Kind, Mode
from meshfold.compat.migration.stickiness import chosen
from meshfold.compat.migration.wire_scan import scan
from meshfold.compat.ramp.audit_log import Action, AuditEntry
from meshfold.compat.ramp.plan import read_plan
from meshfold.compat.ramp.ramp import Ramp
from meshfold.compat.ramp.status import State
from meshfold.compat.ramp.steps import mode_of
from meshfold.compat.shadow.pair_writer import PairWriter
from meshfold.compat.shadow.pairs import OK, Pair, PairSide

# Between looks, on the pairs' clock, and what comes meanwhile.
LOOK_MS, LOOK_PAIRS = 60_000, 200
_BEGIN_MS = 1_760_000_000_000


@dataclass
class Course:
    """The course of a ramp. state: at the end. step: at which it ended, or from which it fell back. planted_at: first
    step with the fault; "" without one. exposed: users with an answer of the model meanwhile.
    pairs_until_stop: with the fault. server_mode: at the end."""

    state: State
    step: str
    planted_at: str = ""
    exposed: set[str] = field(default_factory=set)
    pairs_until_stop: int = 0
    pairs: int = 0
    server_mode: str = ""
    last: AuditEntry | None = None

    @property
    def reasons(self) -> list[str]:
        """Names of the reasons behind the last decision."""
        verdict = self.last.verdict if self.last is not None else None
        if not verdict:
            return []
        return [r["name"] for r in verdict["reasons"] if r["decision"] == verdict["decision"]]


class Replayed:
    """One ramp over a folder of pairs that grows look by look."""

    def __init__(self, plan: Path, surface: str, operators: str, seed: int) -> None:
        """plan: whose folder is emptied of what an earlier ramp left."""
        self._plan = read_plan(plan)
        self._surface = surface
        self._operators = operators
        self._chance = random.Random(seed)
        self._now_ms = _BEGIN_MS
        self._count = 0

    def follow(
        self,
        planted: Planted,
        clean: Sequence[Pair],
        faulty: Sequence[Pair],
        at: int,
        most_looks: int,
        tell: Callable[[str], None],
    ) -> Course:
        """at: the first step with faulty pairs. most_looks: at one step."""
        self._empty()
        with closing(Ramp(self._plan, lambda: self._now_ms)) as ramp:
            ramp.begin("benchmark")
            ramp.look()
            return self._course(ramp, planted, (clean, faulty), at, most_looks, tell)

    def _course(
        self,
        ramp: Ramp,
        planted: Planted,
        pools: tuple[Sequence[Pair], Sequence[Pair]],
        at: int,
        most_looks: int,
        tell: Callable[[str], None],
    ) -> Course:
        clean, faulty = pools
        steps = [str(step) for step in self._plan.steps]
        latencies = Latencies.of(clean)
        course = Course(State.RUNNING, steps[0])
        step, looks, said = -1, 0, 0
        while looks < most_looks:
            own = ramp.states[self._surface]
            step, looks = own.status.step, looks + 1 if own.status.step == step else 1
            is_faulty = bool(planted.side) and (bool(course.planted_at) or step >= at)
            if is_faulty and not course.planted_at:
                course.planted_at = steps[step]
            self._now_ms += LOOK_MS
            pool, fault = (faulty, planted) if is_faulty else (clean, NONE)
            pairs = self._asked(pool, fault, latencies, own.status.mode)
            course.pairs += len(pairs)
            if is_faulty:
                course.pairs_until_stop += len(pairs)
                course.exposed |= {p.user_key for p in pairs if p.served_by == PairSide.MODEL}
            ramp.look()
            after = ramp.states[self._surface]
            if after.decision.number != said:
                said = after.decision.number
                tell(f"{after.decision.action.value} at {steps[step]}: {after.decision.why[:160]}")
            course.state, course.last = after.status.state, after.decision
            course.step = steps[step]
            if ramp.is_over:
                break
        course.server_mode = server_mode_of(self._operators, self._surface)
        return course

    def _asked(self, pool: Sequence[Pair], planted: Planted, latencies: Latencies, mode: str) -> list[Pair]:
        """The next pairs, in the file that a server would write."""
        current = mode_of(mode)
        writer = PairWriter(self._plan.pairs[0], redaction=lambda pair: pair)
        pairs = []
        for pair in self._chance.choices(pool, k=LOOK_PAIRS):
            self._count += 1
            pair = replace(pair, request_id=f"request {self._count}", unix_ms=self._now_ms)
            pair = asked(pair, planted, latencies, self._chance)
            pair = replace(pair, served_by=_answered_by(pair, current), slices={"mode": current.kind.value})
            pairs.append(pair)
            writer.append(pair)
        writer.close()
        return pairs

    def _empty(self) -> None:
        """The mesh answers again, and nothing is left of an earlier ramp."""
        for folder in self._plan.pairs:
            shutil.rmtree(folder, ignore_errors=True)
        for path in self._plan.log.parent.glob("ramp*"):
            path.unlink()
        set_mode(self._operators, self._surface, Kind.MESH.value, why="another ramp begins")


def is_rolled_back(course: Course) -> bool:
    """Whether the model answers no caller any more, and the audit log gives the reason."""
    return (
        course.state is State.FALLEN_BACK
        and course.last is not None
        and course.last.action is Action.FALL_BACK
        and course.server_mode == str(Mode(Kind.MIRROR))
    )


def _answered_by(pair: Pair, mode: Mode) -> str:
    """The side that a server in this mode asks, the mesh where the model fails."""
    is_model = mode.kind is Kind.SERVE or (
        mode.kind is Kind.CANARY and chosen(mode.percent, pair.surface, scan(pair.request), pair.request)
    )
    fails = pair.model is None or pair.model.status != OK
    return (PairSide.MODEL if is_model and not fails else PairSide.MESH).value
