"""The places of modes: one interface, implemented by a file and by Redis."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from meshfold.compat.migration.mode_history import ModeHistory
from meshfold.compat.migration.mode_json import decode_change, decode_modes, encode_change, encode_modes
from meshfold.compat.migration.modes import Change, Modes
from meshfold.model.errors import InvalidConfig, InvalidQuery, NotDurable
from meshfold.service.redis_place import is_redis
from meshfold.service.state import open_state
from meshfold.service.state_copy import COPIES
from meshfold.service.state_file import StateFile
from meshfold.service.state_kind import Entry, Shared, StateKind

_log = logging.getLogger(__name__)


def _changes(modes: Modes) -> Sequence[Entry]:
    return [(modes.generation - i, encode_change(change)) for i, change in enumerate(modes.history)]


MODES = StateKind(
    noun="modes",
    remedy="put back a copy, or remove it to begin with the mesh answering",
    encode=encode_modes,
    decode=decode_modes,
    # Above the size of the most surfaces and changes with the longest names and reasons.
    most_bytes=8 << 20,
    changes=_changes,
)


class ModeStore(Protocol):
    """A Shared of service/state_kind.py, whose history has Changes."""

    @property
    def name(self) -> str: ...

    @property
    def last(self) -> Modes | None: ...

    @property
    def is_seen(self) -> bool: ...

    def read(self) -> Modes | None: ...

    def change(self, change: Callable[[Modes | None], Modes]) -> Modes: ...

    def keep(self, state: Modes) -> bool: ...

    def history(self, count: int) -> Sequence[Change]:
        """The latest changes, newest first, including changes older than those in Modes. Raises InvalidConfig."""

    def close(self) -> None: ...


def open_modes(place: str, copies: Path = COPIES) -> ModeStore:
    """Opens the modes. place, copies: see open_state. Raises InvalidConfig."""
    if is_redis(place):
        return ModeRedis(open_state(place, MODES, copies=copies))
    return ModeFile(Path(place))


class ModeRedis:
    """Modes in Redis, with their changes."""

    def __init__(self, shared: Shared[Modes]) -> None:
        self._shared = shared
        self.read, self.change = shared.read, shared.change
        self.keep, self.close = shared.keep, shared.close

    @property
    def name(self) -> str:
        return self._shared.name

    @property
    def last(self) -> Modes | None:
        return self._shared.last

    @property
    def is_seen(self) -> bool:
        return self._shared.is_seen

    def history(self, count: int) -> Sequence[Change]:
        try:
            found = self._shared.history(count)
        except NotDurable as error:
            raise InvalidConfig(str(error)) from None
        return [change for change in map(_logged, found) if change is not None]


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
        """Appends changes to the history. A change that cannot be appended now is appended with the next, without
        delaying a switch."""
        try:
            self._history.append(modes)
        except OSError as error:
            _log.warning("the change of modes is kept, but not in %s.history: %s", self.name, error.strerror)


def _logged(found: Mapping[str, Any]) -> Change | None:
    """The change of a line of the history; None for a line of unknown form."""
    try:
        return decode_change(
            "a change", {name: value for name, value in found.items() if name != "generation"}
        )
    except (ValueError, InvalidQuery):
        return None
