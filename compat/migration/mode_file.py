"""Where modes are kept: one small interface, and a file behind it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from meshfold.compat.migration.modes import Change, Kind, Mode, Modes
from meshfold.model.errors import InvalidConfig, InvalidQuery, NotDurable

_FORMAT = 1
_CHANGE = {
    "surface": str,
    "mode": str,
    "percent": (int, float),
    "who": str,
    "why": str,
    "unix_ms": int,
    "kill": bool,
}
_FILE = {"format": int, "generation": int, "default": dict, "surfaces": list, "history": list}


class Outdated(Exception):
    """Somebody else changed the modes first."""


class ModeStore(Protocol):
    """What servers that share their modes would share."""

    def read(self) -> Modes:
        """What is kept; the mesh answers everything where nothing is. Raises InvalidConfig where it cannot be read."""

    def replace(self, modes: Modes, generation: int) -> None:
        """Durably, in place of this generation. Raises Outdated where another is kept; NotDurable."""


class ModeFile:
    """Modes in a JSON file, which appears by one rename after everything was synced.

    Servers of one machine may share it: writers take turns, and one that is late is told so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Modes:
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Modes()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidConfig(f"the modes in {self._path} cannot be read: {error}") from None
        try:
            return _modes(json.loads(text))
        except (ValueError, InvalidQuery) as error:
            raise InvalidConfig(
                f"{self._path} holds no modes: {error}; put back a copy, or remove it to begin with the mesh answering"
            ) from None

    def replace(self, modes: Modes, generation: int) -> None:
        try:
            with self._turn():
                if self.read().generation != generation:
                    raise Outdated
                self._write(json.dumps(_json(modes), indent=1, ensure_ascii=False))
        except OSError as error:
            raise NotDurable(f"the modes cannot be written to {self._path}: {error.strerror}") from None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, text: str) -> None:
        new = self._path.with_name(self._path.name + ".new")
        with new.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _json(modes: Modes) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "generation": modes.generation,
        "default": _change_json(modes.default),
        "surfaces": [_change_json(own) for _, own in sorted(modes.surfaces.items())],
        "history": [_change_json(change) for change in modes.history],
    }


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "surface": change.surface,
        "mode": change.mode.kind.value,
        "percent": change.mode.percent,
        "who": change.who,
        "why": change.why,
        "unix_ms": change.unix_ms,
        "kill": change.kill,
    }


def _modes(found: Any) -> Modes:
    """Raises ValueError, InvalidQuery."""
    _check("the file", found, _FILE)
    if found["format"] != _FORMAT:
        raise ValueError(f"its format is {found['format']}, and {_FORMAT} is known")
    default = _change("default", found["default"])
    surfaces = [_change(f"surfaces[{i}]", own) for i, own in enumerate(found["surfaces"])]
    if default.surface or not all(own.surface for own in surfaces):
        raise ValueError("surfaces have names, and the default has none")
    return Modes(
        generation=found["generation"],
        default=default,
        surfaces={own.surface: own for own in surfaces},
        history=tuple(_change(f"history[{i}]", change) for i, change in enumerate(found["history"])),
    )


def _change(path: str, found: Any) -> Change:
    _check(path, found, _CHANGE)
    mode = Mode(Kind(found["mode"]), float(found["percent"]))
    return Change(found["surface"], mode, found["who"], found["why"], found["unix_ms"], found["kill"])


def _check(path: str, found: Any, expected: dict[str, Any]) -> None:
    if not isinstance(found, dict) or found.keys() != expected.keys():
        raise ValueError(f"{path} must be an object of {', '.join(expected)}")
    for name, kind in expected.items():
        value = found[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{path}.{name} does not hold {value!r}")
