"""Pinned versions: the version that a surface serves until the pin is ended, across publications and restarts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from meshfold.model.errors import InvalidConfig, InvalidQuery, NotDurable
from meshfold.service.state import begin, open_state
from meshfold.service.state_copy import COPIES
from meshfold.service.state_kind import Entry, StateKind, Unsure

_log = logging.getLogger(__name__)

MOST_PINS, MOST_CHARACTERS = 1000, 1000
_FORMAT = 1
# Seconds that a change waits for the read or write before it.
_WAIT_S = 1.0
_TEXTS = ("surface", "folder", "action", "who", "why")


class Action:
    """The kinds of entries in the history."""

    ACTIVATE = "activate"
    ROLL_BACK = "roll back"
    FOLLOW = "follow"
    DELETE = "delete"


@dataclass(frozen=True)
class VersionChange:
    """An entry of the history. folder: name of a snapshot's folder; "" for none. action: one of Action's."""

    surface: str
    folder: str
    action: str
    who: str = ""
    why: str = ""
    unix_ms: int = 0

    def __post_init__(self) -> None:
        for name in ("surface", "folder", "who", "why"):
            size = len(getattr(self, name))
            if size > MOST_CHARACTERS:
                raise InvalidQuery(name, f"has {size} characters; at most {MOST_CHARACTERS} are allowed")


@dataclass(frozen=True)
class Pins:
    """All pins. generation: number of changes so far. surfaces: the change that pinned each. last: the latest
    change."""

    generation: int = 0
    surfaces: Mapping[str, VersionChange] = field(default_factory=dict)
    last: VersionChange | None = None

    def folder(self, surface: str) -> str:
        """The folder to which a surface is pinned; "" for none."""
        pin = self.surfaces.get(surface)
        return "" if pin is None else pin.folder

    def changed(self, change: VersionChange) -> Pins:
        """The pins after a change. Raises InvalidQuery where there are too many."""
        surfaces = dict(self.surfaces)
        if change.action in (Action.ACTIVATE, Action.ROLL_BACK):
            surfaces[change.surface] = change
        elif change.action == Action.FOLLOW:
            surfaces.pop(change.surface, None)
        if len(surfaces) > MOST_PINS:
            raise InvalidQuery("surface", f"{MOST_PINS} surfaces are pinned, and no more may be")
        return Pins(self.generation + 1, surfaces, change)


class VersionPins:
    """The pins in effect and the history of changes, in a place that servers share.

    refresh() reads other servers' changes. Reading `current` takes no lock.
    """

    def __init__(self, place: str | Path, copies: Path = COPIES) -> None:
        """place: a file or a place in Redis. copies: see open_state.

        Raises InvalidConfig where the content of the place cannot be decoded.
        """
        self._shared = open_state(str(place), _KIND, copies=copies)
        self._writing = threading.Lock()
        self._kept, self._unreadable = begin(self._shared, "the model serves nothing until they are read")
        self.current: Pins = self._kept or Pins()

    def close(self) -> None:
        """Closes the place; called after the last refresh."""
        self._shared.close()

    @property
    def is_known(self) -> bool:
        """Whether this machine ever read the place, empty or not."""
        return self._shared.is_seen

    @property
    def trouble(self) -> str:
        """What is wrong with the shared place; "" for nothing."""
        return self._unreadable

    def change(self, change: VersionChange) -> Pins:
        """Makes a change, durably and in effect on return. Raises InvalidQuery, NotDurable."""
        if not self._writing.acquire(timeout=_WAIT_S):
            raise NotDurable(
                f"{self._shared.name} has been read or written for over {_WAIT_S:g} s; try again"
            )
        try:
            self._kept = self._shared.change(lambda kept: self._next(kept, change))
            self.current, self._unreadable = self._kept, ""
        except Unsure:
            raise
        except (InvalidConfig, NotDurable) as error:
            raise NotDurable(f"nothing was changed: {error}") from None
        finally:
            self._writing.release()
        return self.current

    def history(self, count: int) -> Sequence[VersionChange]:
        """The latest changes, newest first. Raises NotDurable where they cannot be read."""
        return [change for change in map(_logged, self._shared.history(count)) if change is not None]

    def refresh(self) -> None:
        """Puts other servers' changes into effect. A place that cannot be read changes nothing."""
        if not self._writing.acquire(blocking=False):
            return
        try:
            kept = self._shared.read()
            if kept is None and self._kept is not None:
                self._lost(f"{self._shared.name} is gone; the next change writes it again")
                return
            self._kept, self.current = kept, kept or Pins()
            self._unreadable = ""
        except InvalidConfig as error:
            self._lost(str(error))
        finally:
            self._writing.release()

    def _next(self, kept: Pins | None, change: VersionChange) -> Pins:
        # Where the file is gone, the last known pins count.
        return (kept or self._kept or Pins()).changed(change)

    def _lost(self, reason: str) -> None:
        if not self._unreadable:
            _log.error("the pinned versions stay as they are, other servers' are not seen: %s", reason)
        self._unreadable = reason


def change_now(surface: str, folder: str, action: str, who: str, why: str) -> VersionChange:
    """A change made now. Raises InvalidQuery."""
    if not who:
        raise InvalidQuery("who", "is empty; say who asks for it")
    return VersionChange(surface, folder, action, who, why, time.time_ns() // 1_000_000)


def _changes(pins: Pins) -> Sequence[Entry]:
    return [] if pins.last is None else [(pins.generation, asdict(pins.last))]


def _encode(pins: Pins) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "generation": pins.generation,
        "pins": [asdict(pin) for _, pin in sorted(pins.surfaces.items())],
        "last": None if pins.last is None else asdict(pins.last),
    }


def _decode(found: Any) -> Pins:
    """The pins of decoded JSON. Raises ValueError, InvalidQuery."""
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise ValueError(f"an object of format {_FORMAT} is expected")
    generation, pins, last = (found.get(name) for name in ("generation", "pins", "last"))
    if type(generation) is not int or not isinstance(pins, list):
        raise ValueError("generation and pins are expected")
    changes = [_decoded(f"pins[{i}]", pin) for i, pin in enumerate(pins)]
    return Pins(generation, {c.surface: c for c in changes}, None if last is None else _decoded("last", last))


def _decoded(path: str, found: Any) -> VersionChange:
    texts: list[Any] = [found.get(name) for name in _TEXTS] if isinstance(found, dict) else [None]
    if not all(isinstance(text, str) for text in texts) or type(found.get("unix_ms")) is not int:
        raise ValueError(f"{path} must hold {', '.join(_TEXTS)} as text and unix_ms as an integer")
    surface, folder, action, who, why = texts
    return VersionChange(surface, folder, action, who, why, found["unix_ms"])


def _logged(found: Mapping[str, Any]) -> VersionChange | None:
    """The change of a line of the history; None for a line of unknown form."""
    try:
        return _decoded("a line", found)
    except (ValueError, InvalidQuery):
        return None


_KIND = StateKind(
    noun="pinned versions",
    remedy="put back a copy, or remove it to serve the newest of each surface",
    encode=_encode,
    decode=_decode,
    most_bytes=16 << 20,
    changes=_changes,
)
