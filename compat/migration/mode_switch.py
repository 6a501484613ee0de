"""The modes in effect, and the one place that changes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from meshfold.compat.migration.mode_file import ModeStore, Outdated
from meshfold.compat.migration.modes import Change, Mode, Modes
from meshfold.model.errors import InvalidConfig, NotDurable


@dataclass(frozen=True, eq=False)
class _Kill:
    who: str
    why: str
    unix_ms: int

    def __call__(self, modes: Modes) -> Modes:
        return modes.killed(self.who, self.why, self.unix_ms)


class ModeSwitch:
    """Reading `current` takes no lock: every call does it.

    A change is durable before it is in effect. A kill is in effect before it is durable: it must work on a full disk,
    and waits for nobody. One that could not be written is written with the next change.
    """

    def __init__(self, store: ModeStore) -> None:
        """Raises InvalidConfig where what is kept cannot be read."""
        self._store = store
        self._writing = threading.Lock()
        self._effect = threading.Lock()
        self._kills = 0
        self._unwritten: _Kill | None = None
        self.current: Modes = store.read()

    def set(self, surface: str, mode: Mode | None, who: str, why: str) -> Modes:
        """The modes after it. surface: "" for the default. mode: None for that of the default.

        Raises InvalidQuery, NotDurable.
        """
        unix_ms = _now_ms()

        def change(modes: Modes) -> Modes:
            if mode is None:
                return modes.dropped(Change(surface, modes.default.mode, who, why, unix_ms))
            return modes.changed(Change(surface, mode, who, why, unix_ms))

        with self._writing:
            return self._keep(change)

    def kill(self, who: str, why: str) -> Modes:
        """The mesh answers everything from now on. Raises NotDurable where a restart would bring back what was."""
        kill = _Kill(who, why, _now_ms())
        with self._effect:
            self.current = kill(self.current)
            self._kills += 1
            self._unwritten = kill
        with self._writing:
            try:
                return self._keep(lambda modes: modes)
            except NotDurable as error:
                raise NotDurable(
                    f"the mesh answers everything now, but a restart would bring back the modes of before: {error}"
                ) from None

    def _keep(self, change: Callable[[Modes], Modes]) -> Modes:
        """Writes the change onto what is kept, after a kill that is not written yet, and puts it in effect."""
        with self._effect:
            kills, unwritten = self._kills, self._unwritten
        while True:
            try:
                kept = self._store.read()
            except InvalidConfig as error:
                raise NotDurable(str(error)) from None
            modes = change(unwritten(kept) if unwritten else kept)
            try:
                self._store.replace(modes, kept.generation)
                break
            except Outdated:
                continue
        with self._effect:
            if unwritten is self._unwritten:
                self._unwritten = None
            # A kill that came meanwhile is the later word, and is about to be written.
            if kills == self._kills:
                self.current = modes
        return modes


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
