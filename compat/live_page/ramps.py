"""The state of ramps, which `meshfold migrate` keeps beside the modes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from meshfold.compat.ramp.audit_log import AuditEntry, AuditLog
from meshfold.compat.ramp.plan import log_beside
from meshfold.compat.ramp.ramp_state import RAMP
from meshfold.compat.ramp.status import Status
from meshfold.model.errors import MeshfoldError
from meshfold.service.redis_place import is_redis
from meshfold.service.state import open_state

# Latest entries of the audit log.
_LATEST = 50


@dataclass(frozen=True)
class RampsNow:
    """The ramps now. statuses: by surface. decisions: newest first. trouble: why they are unreadable, or ""."""

    statuses: Mapping[str, Status] = field(default_factory=dict)
    decisions: Sequence[AuditEntry] = ()
    trouble: str = ""


class Ramps:
    """A reader of ramps, for one thread at a time."""

    def __init__(self, modes: str, copies: Path) -> None:
        """modes: place of the modes, a file or Redis. copies: as for open_state, whose InvalidConfig it raises."""
        place = modes if is_redis(modes) else str(Path(modes).with_name("ramp.json"))
        self._state = open_state(place, RAMP, copies=copies)
        self._log = AuditLog(log_beside(place, Path()))

    def look(self) -> RampsNow:
        try:
            state = self._state.read()
            if state is None:
                return RampsNow()
            decisions = self._log.latest(_LATEST)
        except (MeshfoldError, OSError) as error:
            return RampsNow(trouble=f"The ramp cannot be read: {error}")
        return RampsNow({name: own.status for name, own in state.surfaces.items()}, decisions)
