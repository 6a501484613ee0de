"""Read access to a ramp for other parts: each surface's status, and the latest decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meshfold.compat.ramp.audit_log import AuditLog
from meshfold.compat.ramp.plan import log_beside
from meshfold.compat.ramp.ramp_state import RampStore
from meshfold.compat.ramp.status import Status


def statuses(state: str) -> Mapping[str, Status]:
    """Each surface's status by name. state: a file or a URL of Redis. Raises InvalidConfig if unreadable."""
    kept = RampStore(state, log_beside(state, Path())).read()
    return {} if kept is None else {name: own.status for name, own in kept.surfaces.items()}


def latest_decisions(log: Path, count: int) -> Sequence[Mapping[str, Any]]:
    """The latest entries of an audit log as JSON, newest first; none without a log. Raises OSError."""
    return [entry.to_json() for entry in AuditLog(log).latest(count)]
