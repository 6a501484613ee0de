"""The ramp of all surfaces of a plan, from the first look to the last decision."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from meshfold.compat.ramp.causes import Causes
from meshfold.compat.ramp.checks import Checked, check
from meshfold.compat.ramp.pair_folders import PairFolders
from meshfold.compat.ramp.plan import Plan
from meshfold.compat.ramp.ramp_state import RampStore, SurfaceState
from meshfold.compat.ramp.servers import Look, Servers
from meshfold.compat.ramp.surface_ramp import SurfaceRamp
from meshfold.model.errors import InvalidConfig, NotDurable, Unprepared
from meshfold.service.state_kind import Unreachable

_log = logging.getLogger(__name__)

# Pauses before the next attempts to reach a server at the start.
_PAUSES_S = (0.5, 1.0, 2.0)
# Pauses before the attempts to lock a plan.
_LOCK_PAUSES_S = (0.0, 0.05, 0.1)

# Called with a surface's state after each change.
Show = Callable[[SurfaceState], None]


class Ramp:
    """All surfaces of a plan. For one thread. Raises InvalidConfig or Unprepared if it cannot go on."""

    def __init__(self, plan: Plan, now_ms: Callable[[], int] | None = None) -> None:
        """now_ms: the clock for pairs, in milliseconds since 1970; None for this machine's."""
        self._plan = plan
        self._now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self.store = RampStore(plan.state, plan.log)
        self._servers = Servers(plan.servers)
        self._causes = Causes(plan.store, plan.mesh)
        self._folders: PairFolders | None = None
        self._ramps = [
            SurfaceRamp(plan, surface, self.store, self._servers, self._causes, self._now_ms)
            for surface in plan.surfaces
        ]

    def close(self) -> None:
        self._servers.close()
        self._causes.close()

    def begin(self, who: str) -> Checked:
        """Checks that the servers give evidence, completes steps cut off by a kill, and decides to start.

        who: the operator. Raises Unprepared if the plan would wait for ever.
        """
        self.store.catch_up()
        looks = self._first_looks()
        kept = self.store.read()
        checked = check(self._plan, looks)
        if kept is None or not all(surface in kept.surfaces for surface in self._plan.surfaces):
            checked.refuse()
        else:
            # A ramp that has begun may go on and be stopped all the same.
            checked = Checked(doubtful=[*checked.wrong, *checked.doubtful])
        for ramp in self._ramps:
            ramp.begin(looks, who)
        return checked

    def _first_looks(self) -> Mapping[str, Look]:
        """Looks at all servers; tries a busy or starting server again."""
        looks = self._servers.look()
        for pause_s in _PAUSES_S:
            if all(look.shown is not None for look in looks.values()):
                break
            time.sleep(pause_s)
            looks = self._servers.look()
        return looks

    def look(self) -> None:
        """Puts decisions in effect, reads new pairs, and decides."""
        looks = self._servers.look()
        for ramp in self._ramps:
            ramp.follow(looks)
        for pairs in self._pairs().new():
            for ramp in self._ramps:
                ramp.take(pairs)
        for ramp in self._ramps:
            ramp.judge()
        decided = [ramp for ramp in self._ramps if not ramp.state.in_effect]
        if decided:
            looks = self._servers.look()
            for ramp in decided:
                ramp.follow(looks)

    def run(self, stop: threading.Event, show: Show) -> None:
        """Runs until every surface's ramp is over or `stop` is set. Waits for a disk or server that fails."""
        shown: dict[str, SurfaceState] = {}
        trouble = ""
        while True:
            try:
                self.look()
                self._show(shown, show)
                trouble = ""
                if self.is_over:
                    return
            except (NotDurable, Unreachable) as error:
                if trouble != str(error):
                    trouble = str(error)
                    _log.error("no decision is made until the state can be written: %s", trouble)
            if stop.wait(self._plan.poll_s):
                return

    @property
    def is_over(self) -> bool:
        return all(ramp.is_over for ramp in self._ramps)

    @property
    def states(self) -> Mapping[str, SurfaceState]:
        return {ramp.state.status.surface: ramp.state for ramp in self._ramps}

    def _show(self, shown: dict[str, SurfaceState], show: Show) -> None:
        for surface, own in self.states.items():
            if own != shown.get(surface):
                shown[surface] = own
                show(own)

    def _pairs(self) -> PairFolders:
        """All pairs that may be evidence of a running step; those read before a kill are read again."""
        if self._folders is None:
            since = [own.status.since_unix_ms for own in self.states.values()]
            # Pairs count only once the mode is in effect.
            begun = [unix_ms for unix_ms in since if unix_ms] or [self._now_ms()]
            self._folders = PairFolders(self._plan.pairs, min(begun))
        return self._folders


@contextmanager
def alone(log: Path) -> Iterator[None]:
    """Keeps other processes from following the plan. Raises Unprepared if one follows it already."""
    path = _running(log)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidConfig(
            f"{path} cannot be written: {error.strerror}; name a log in a folder of yours"
        ) from None
    try:
        # `status` holds the lock for a moment.
        if not any(_locked(descriptor, fcntl.LOCK_EX, pause_s) for pause_s in _LOCK_PAUSES_S):
            raise Unprepared(
                f"another `meshfold migrate` follows this plan, or one with the same log, and holds {path}; `meshfold "
                "migrate status` shows how far it is, and another plan needs a state and a log of its own"
            )
        yield
    finally:
        os.close(descriptor)


def is_followed(log: Path) -> bool:
    """Whether a process on this machine follows the plan now. False if that cannot be read."""
    try:
        descriptor = os.open(_running(log), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH, 0)
    finally:
        os.close(descriptor)


def _running(log: Path) -> Path:
    return log.with_name(log.name + ".running")


def _locked(descriptor: int, kind: int, pause_s: float) -> bool:
    """Locks after a pause. The lock ends with the process, or with the descriptor."""
    time.sleep(pause_s)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
