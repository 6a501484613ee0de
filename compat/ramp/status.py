"""The status of a surface on its way from the mesh to the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from meshfold.compat.gate.verdict import Verdict
from meshfold.compat.ramp.audit_log import unix_ms_of
from meshfold.compat.ramp.steps import step_of


class State(StrEnum):
    """The state of a surface's ramp. Only RUNNING follows the gate; operators end PAUSED, FALLEN_BACK and ABORTED."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FALLEN_BACK = "fallen back"
    ABORTED = "aborted"

    @property
    def is_over(self) -> bool:
        """Whether the ramp has ended."""
        return self in (State.DONE, State.FALLEN_BACK, State.ABORTED)


@dataclass(frozen=True)
class Status:
    """The status of one surface.

    step: its place in `steps`, from 0. mode: the decided mode, such as "canary 5 %", or the one that an operator set
    by hand. since_unix_ms: time from which pairs are evidence of this step; 0 until the mode is in effect on all
    servers. hold_until_unix_ms: the earliest promotion. verdict: the gate's latest; None before the first. reason:
    for this status, a sentence.
    """

    surface: str
    step: int
    steps: tuple[str, ...]
    mode: str
    state: State
    since_unix_ms: int = 0
    hold_until_unix_ms: int = 0
    verdict: Verdict | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "surface": self.surface,
            "step": self.step,
            "steps": list(self.steps),
            "mode": self.mode,
            "state": self.state.value,
            "since_unix_ms": self.since_unix_ms,
            "hold_until_unix_ms": self.hold_until_unix_ms,
            "verdict": None if self.verdict is None else self.verdict.to_json(),
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Raises ValueError."""
        try:
            verdict = found["verdict"]
            status = cls(
                surface=str(found["surface"]),
                step=int(found["step"]),
                steps=tuple(str(step) for step in found["steps"]),
                mode=str(found["mode"]),
                state=State(found["state"]),
                since_unix_ms=unix_ms_of(found["since_unix_ms"]),
                hold_until_unix_ms=unix_ms_of(found["hold_until_unix_ms"]),
                verdict=None if verdict is None else Verdict.from_json(verdict),
                reason=str(found["reason"]),
            )
            for step in status.steps:
                step_of(step)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"no status of a ramp: {type(error).__name__} {error}") from None
        if not 0 <= status.step < len(status.steps):
            raise ValueError(f"step must be 0 to {len(status.steps) - 1}, got {status.step}")
        return status
