"""All surfaces of a plan, from the first look to the last decision."""

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

# Until a server that did not answer at the start is asked again.
_PAUSES_S = (0.5, 1.0, 2.0)
# Until the lock of a plan is tried again.
_LOCK_PAUSES_S = (0.0, 0.05, 0.1)

# Is told of a surface's state whenever it has changed.
Tell = Callable[[SurfaceState], None]


class Ramp:
    """For one thread. Raises what it cannot go on from: InvalidConfig, Unprepared."""

    def __init__(self, plan: Plan, now_ms: Callable[[], int] | None = None) -> None:
        """now_ms: the clock of pairs, in milliseconds since 1970; None for this machine's."""
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
        """Looks whether the servers give evidence, makes whole what a kill cut off, and decides to start.

        who: starts it. Raises Unprepared where the plan would wait for ever.
        """
        self.store.catch_up()
        looks = self._first_looks()
        kept = self.store.read()
        checked = check(self._plan, looks)
        if kept is None or not all(surface in kept.surfaces for surface in self._plan.surfaces):
            checked.refuse()
        else:
            # A ramp that goes on may be followed and stopped all the same.
            checked = Checked(doubtful=[*checked.wrong, *checked.doubtful])
        for ramp in self._ramps:
            ramp.begin(looks, who)
        return checked

    def _first_looks(self) -> Mapping[str, Look]:
        """A server that is busy, or just starts, is asked again."""
        looks = self._servers.look()
        for pause_s in _PAUSES_S:
            if all(look.shown is not None for look in looks.values()):
                break
            time.sleep(pause_s)
            looks = self._servers.look()
        return looks

    def look(self) -> None:
        """Puts what was decided in effect, takes in new pairs, and decides."""
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

    def run(self, stop: threading.Event, tell: Tell) -> None:
        """Until every surface's ramp is over, or it is stopped. A disk or a server that fails is waited for."""
        told: dict[str, SurfaceState] = {}
        trouble = ""
        while True:
            try:
                self.look()
                self._tell(told, tell)
                trouble = ""
                if self.is_over:
                    return
            except (NotDurable, Unreachable) as error:
                if trouble != str(error):
                    trouble = str(error)
                    _log.error("nothing is decided until it can be kept: %s", trouble)
            if stop.wait(self._plan.poll_s):
                return

    @property
    def is_over(self) -> bool:
        return all(ramp.is_over for ramp in self._ramps)

    @property
    def states(self) -> Mapping[str, SurfaceState]:
        return {ramp.state.status.surface: ramp.state for ramp in self._ramps}

    def _tell(self, told: dict[str, SurfaceState], tell: Tell) -> None:
        for surface, own in self.states.items():
            if own != told.get(surface):
                told[surface] = own
                tell(own)

    def _pairs(self) -> PairFolders:
        """All that may be evidence of a step that goes on: a kill lost what was taken in."""
        if self._folders is None:
            since = [own.status.since_unix_ms for own in self.states.values()]
            # Of a mode that is not in effect yet no pair counts.
            begun = [unix_ms for unix_ms in since if unix_ms] or [self._now_ms()]
            self._folders = PairFolders(self._plan.pairs, min(begun))
        return self._folders


@contextmanager
def alone(log: Path) -> Iterator[None]:
    """While one process follows a plan no other does. Raises Unprepared where one does."""
    path = _running(log)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidConfig(
            f"{path} cannot be written: {error.strerror}; name a log in a folder of yours"
        ) from None
    try:
        # Who only looks holds the lock for a moment.
        if not any(_locked(descriptor, fcntl.LOCK_EX, pause_s) for pause_s in _LOCK_PAUSES_S):
            raise Unprepared(
                f"another `meshfold migrate` follows this plan, or one with the same log, and holds {path}; `meshfold "
                "migrate status` shows how far it is, and another plan needs a state and a log of its own"
            )
        yield
    finally:
        os.close(descriptor)


def is_followed(log: Path) -> bool:
    """Whether a process follows the plan now, on this machine. False where that cannot be read."""
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
    """After a pause. The lock ends with the process, or with the descriptor."""
    time.sleep(pause_s)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
