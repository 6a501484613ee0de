"""The modes in effect, and the only code that changes them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshfold.compat.migration.mode_file import ModeStore
from meshfold.compat.migration.mode_log import log_changes
from meshfold.compat.migration.modes import MOST_CHARACTERS, Change, Mode, Modes
from meshfold.model.errors import InvalidConfig, NotDurable, Unprepared
from meshfold.service.state import begin
from meshfold.service.state_kind import Unsure

_log = logging.getLogger(__name__)

# Seconds between reads of the shared place, which other servers may change.
POLL_S = 0.2
# Seconds that a kill waits to become durable, and that a change waits for the read or write before it.
WAIT_S = 1.0
# Seconds after which a read counts as hung in the file system.
_HUNG_S = 5.0


@dataclass(frozen=True, eq=False)
class _Kill:
    who: str
    why: str
    unix_ms: int

    def __call__(self, modes: Modes) -> Modes:
        return modes.killed(self.who, self.why, self.unix_ms)


class ModeSwitch:
    """The modes in effect. Reading `current`, which every call does, takes no lock.

    A change is durable before it is in effect. A kill is in effect before it is durable, so that it works on a full
    disk and waits for no write. From start() to stop() a thread writes kills, repeatedly until it succeeds, and puts
    other servers' changes into effect. A kill that is not written yet takes precedence over the shared modes.
    """

    def __init__(self, store: ModeStore, on_kill: Callable[[], None] = lambda: None) -> None:
        """on_kill: called once a kill is in effect, whichever server received it.

        Raises InvalidConfig where the modes cannot be read. Where the place does not answer, this machine's local copy
        is in effect; without one the mesh answers.
        """
        self._store = store
        self._on_kill = on_kill
        # The lock for reads and writes of the place.
        self._writing = threading.Lock()
        # The lock of the attributes below, taken for moments.
        self._effect = threading.Condition()
        self._kept, self._unreadable = begin(store, "without earlier ones the mesh answers every surface")
        self.current: Modes = self._kept or Modes()
        self._unwritten: _Kill | None = None
        # The kill whose last write failed, and its error; and whether this machine has a durable copy of it.
        self._failed: tuple[_Kill, str] | None = None
        self._kept_here = False
        self._looked_s = time.monotonic()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="meshfold-modes", daemon=True)

    def start(self) -> None:
        self._looked_s = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after one more attempt to write a kill."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(WAIT_S)
        self._store.close()

    @property
    def readable(self) -> bool:
        """Whether other servers' changes come into effect here."""
        return not (self._unreadable or self._hung)

    @property
    def killed_unwritten(self) -> bool:
        """Whether a kill is in effect here that is not durable yet."""
        return self._unwritten is not None

    @property
    def trouble(self) -> str:
        """What is wrong with the place of the modes; "" for nothing."""
        failed = self._failed
        if self.killed_unwritten:
            reason = failed[1] if failed is not None else "it is being written"
            return f"a kill is in effect here that is not durable yet, nor seen by other servers: {reason}"
        return f"{self._store.name} does not answer" if self._hung else self._unreadable

    @property
    def _hung(self) -> bool:
        return self._thread.is_alive() and time.monotonic() - self._looked_s > _HUNG_S

    def set(
        self, surface: str, mode: Mode | None, who: str, why: str, generation: int | None = None
    ) -> Modes:
        """Sets a mode; returns the modes after the change. surface: "" for the default. mode: None to follow the
        default. generation: of the modes to be changed; None for any.

        Raises InvalidQuery, NotDurable, and Unprepared where the modes have another generation.
        """
        unix_ms = _now_ms()

        def change(modes: Modes) -> Modes:
            if generation is not None and modes.generation != generation:
                raise Unprepared(
                    f"the modes were changed meanwhile: they are of generation {modes.generation}, and the change is "
                    f"made of {generation}; look at them again"
                )
            if mode is None:
                return modes.dropped(Change(surface, modes.default.mode, who, why, unix_ms))
            return modes.changed(Change(surface, mode, who, why, unix_ms))

        try:
            return self._write(change)
        except Unsure:
            raise
        except NotDurable as error:
            raise NotDurable(f"nothing was changed: {error}") from None

    def kill(self, who: str, why: str) -> Modes:
        """Has the mesh answer everything from now on. who, why: cut where they are too long.

        Raises NotDurable where it is not durable within WAIT_S, so that a restart would bring the former modes back.
        """
        kill = _Kill(who[:MOST_CHARACTERS], why[:MOST_CHARACTERS], _now_ms())
        with self._effect:
            before, self.current = self.current, kill(self.current)
            self._unwritten, self._failed = kill, None
            killed = self.current
        self._tell(before, killed)
        self._wake.set()
        with self._effect:
            self._effect.wait_for(lambda: self._unwritten is None or self._failed is not None, WAIT_S)
            if self._unwritten is None:
                return self.current
            reason = self._failed[1] if self._failed else f"it is not written within {WAIT_S:g} s"
            is_kept = self._failed is not None and self._kept_here
        restart = (
            "after a restart, too, but"
            if is_kept
            else "but a restart would bring back the modes of before, and"
        )
        raise NotDurable(
            f"the mesh answers everything here now, {restart} servers that share them do not see it yet: {reason}; "
            "this server goes on trying to write it"
        )

    def history(self, count: int) -> Sequence[Change]:
        """The latest changes, newest first. Raises NotDurable where they cannot be read."""
        carried = self.current.history
        if count <= len(carried):
            return carried[:count]
        try:
            logged = self._store.history(count)
        except InvalidConfig as error:
            raise NotDurable(str(error)) from None
        known = set(carried)
        return [*carried, *(change for change in logged if change not in known)][:count]

    def _write(self, change: Callable[[Modes], Modes]) -> Modes:
        """Writes a change of the shared modes, after any unwritten kill, and puts it into effect."""
        if not self._writing.acquire(timeout=WAIT_S):
            raise NotDurable(f"{self._store.name} has been read or written for over {WAIT_S:g} s")
        try:
            with self._effect:
                unwritten = self._unwritten

            def changed(kept: Modes | None) -> Modes:
                # Where the shared modes are gone, the last known ones count.
                modes = kept or self._kept or Modes()
                return change(unwritten(modes) if unwritten else modes)

            try:
                modes = self._store.change(changed)
            except InvalidConfig as error:
                raise NotDurable(str(error)) from None
            self._put_in_effect(modes, unwritten)
        finally:
            self._writing.release()
        return modes

    def _put_in_effect(self, kept: Modes, written: _Kill | None = None) -> None:
        """Puts modes into effect, unless another kill is not written yet. written: the kill that these modes
        contain."""
        with self._effect:
            self._kept = kept
            self._readable_again()
            if written is self._unwritten:
                self._unwritten = self._failed = None
                self._effect.notify_all()
            if self._unwritten is not None:
                return
            before, self.current = self.current, kept
        self._tell(before, kept)

    def _tell(self, before: Modes, after: Modes) -> None:
        if log_changes(before, after):
            self._on_kill()

    def _work(self) -> None:
        while not self._stopping:
            self._wake.wait(POLL_S)
            self._wake.clear()
            try:
                if self._unwritten is not None:
                    self._write_kill()
                else:
                    self._follow()
            except Exception as error:  # an unforeseen error must not end the thread
                self._lost(f"{type(error).__qualname__}: {error}")
            self._looked_s = time.monotonic()
        if self._unwritten is not None:
            self._write_kill()

    def _write_kill(self) -> None:
        kill = self._unwritten
        try:
            self._write(lambda modes: modes)
        except NotDurable as error:
            is_kept = self._failed is not None and self._kept_here
            is_kept = is_kept or self._store.keep(self.current)
            with self._effect:
                told = self._failed is not None
                self._kept_here = is_kept
                if kill is not None and self._unwritten is kill:
                    self._failed = kill, str(error)
                self._effect.notify_all()
            if not told:
                _log.error("a kill is in effect that is not durable yet, and is tried again: %s", error)

    def _follow(self) -> None:
        """Puts other servers' changes into effect."""
        # The thread that has the lock reads the place.
        if not self._writing.acquire(blocking=False):
            return
        try:
            try:
                kept = self._store.read()
            except InvalidConfig as error:
                self._lost(str(error))
                return
            if kept is None and self._kept is not None:
                self._lost(f"{self._store.name} is gone; the next change writes it again")
            elif kept is not None and kept is not self._kept:
                self._put_in_effect(kept)
            else:
                self._readable_again()
        finally:
            self._writing.release()

    def _lost(self, reason: str) -> None:
        if not self._unreadable:
            _log.error("the modes stay as they are, and those of other servers are not seen: %s", reason)
        self._unreadable = reason

    def _readable_again(self) -> None:
        if self._unreadable:
            _log.warning("the modes in %s can be read again", self._store.name)
        self._unreadable = ""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
