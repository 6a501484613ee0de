"""The steps of a ramp: modes that let the model answer more and more users."""

from __future__ import annotations

import re
from collections.abc import Sequence

from meshfold.compat.migration.modes import Kind, Mode

MESH = str(Mode(Kind.MESH))
DEFAULT = ("mirror", "canary 1", "canary 5", "canary 25", "canary 50", "serve")

_CANARY = re.compile(r"canary\s+(\d+(?:\.\d+)?)\s*%?")
# Names of modes have six digits.
_LEAST_PERCENT = 0.0001
_EXPECTED = "expected mirror, `canary N` with a percentage, or serve"


def step_of(text: str) -> Mode:
    """The mode of a step. Raises ValueError with the remedy."""
    if text == Kind.ONLY:
        raise ValueError(
            "only is the operator's own step, since nothing is compared in it: "
            "end with serve, and switch by hand (`meshfold mode SURFACE only`)"
        )
    if text == Kind.MESH:
        raise ValueError("mesh is where a surface comes from, and compares nothing: begin with mirror")
    if text in (Kind.MIRROR, Kind.SERVE):
        return Mode(Kind(text))
    match = _CANARY.fullmatch(text)
    if match is None:
        raise ValueError(f"{_EXPECTED}, got {text!r}")
    percent = float(match[1])
    if not 0 < percent < 100:
        raise ValueError(f"a canary has over 0 and under 100 %, got {text!r}; serve is for all users")
    if percent < _LEAST_PERCENT or float(f"{percent:g}") != percent:
        raise ValueError(f"a canary has at least {_LEAST_PERCENT:g} %, in six digits at most, got {text!r}")
    return Mode(Kind.CANARY, percent)


def mode_of(text: str) -> Mode:
    """The mode that a decision names: a step, or mesh. Raises ValueError."""
    return Mode(Kind.MESH) if text == MESH else step_of(text)


def check_steps(steps: Sequence[Mode]) -> None:
    """Checks the order of steps. Raises ValueError with the remedy."""
    if not steps or steps[0].kind is not Kind.MIRROR:
        raise ValueError("must begin with mirror: evidence comes before the first user")
    for before, after in zip(steps, steps[1:], strict=False):
        if share_of(after) <= share_of(before):
            raise ValueError(f"must rise from step to step, and {after} comes after {before}")


def share_of(mode: Mode) -> float:
    """The percentage of users that the model answers."""
    return {Kind.SERVE: 100.0, Kind.ONLY: 100.0, Kind.CANARY: mode.percent}.get(mode.kind, 0.0)
