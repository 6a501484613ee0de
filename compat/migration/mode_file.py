"""Where modes are kept: one small interface, and a file behind it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from meshfold.compat.migration.mode_history import ModeHistory
from meshfold.compat.migration.mode_json import decode_modes, encode_modes
from meshfold.compat.migration.modes import Change, Modes
from meshfold.model.errors import InvalidConfig
from meshfold.service.state_file import StateFile, StateKind

_log = logging.getLogger(__name__)

MODES = StateKind(
    noun="modes",
    remedy="put back a copy, or remove it to begin with the mesh answering",
    encode=encode_modes,
    decode=decode_modes,
    # More than the longest names and reasons of as many surfaces and changes as there may be.
    most_bytes=8 << 20,
)


class ModeStore(Protocol):
    """Modes that servers share."""

    @property
    def name(self) -> str:
        """For messages."""

    def read(self) -> Modes | None:
        """What is kept; None where nothing is. Raises InvalidConfig where it cannot be read."""

    def change(self, change: Callable[[Modes | None], Modes]) -> Modes:
        """What the change makes of what is kept, durably in its place; others wait meanwhile.

        Raises NotDurable, InvalidConfig where what is kept cannot be read, and what the change raises.
        """

    def history(self, count: int) -> Sequence[Change]:
        """The latest changes, newest first, older ones than modes carry included. Raises InvalidConfig."""


class ModeFile(StateFile[Modes]):
    """Modes in a JSON file. Every change is also appended to FILE.history."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, MODES, self._append)
        self._history = ModeHistory(path.with_name(path.name + ".history"))

    def history(self, count: int) -> Sequence[Change]:
        try:
            return self._history.latest(count)
        except OSError as error:
            raise InvalidConfig(f"{self.name}.history cannot be read: {error.strerror}") from None

    def _append(self, modes: Modes) -> None:
        """What cannot be logged now is logged with the next change: a switch does not wait for it."""
        try:
            self._history.append(modes)
        except OSError as error:
            _log.warning("the change of modes is kept, but not in %s.history: %s", self.name, error.strerror)
