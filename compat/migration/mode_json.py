"""Modes and changes as JSON, in the modes file and in the history beside it."""

from __future__ import annotations

from typing import Any

from meshfold.compat.migration.modes import Change, Kind, Mode, Modes

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
# Largest generation: it is sent as int64, and must have a successor.
_MOST_INTEGER = (1 << 63) - 2


def encode_modes(modes: Modes) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "generation": modes.generation,
        "default": encode_change(modes.default),
        "surfaces": [encode_change(own) for _, own in sorted(modes.surfaces.items())],
        "history": [encode_change(change) for change in modes.history],
    }


def decode_modes(found: Any) -> Modes:
    """The modes of decoded JSON. Raises ValueError, InvalidQuery."""
    _check("the file", found, _FILE)
    if found["format"] != _FORMAT:
        raise ValueError(f"its format is {found['format']}, and {_FORMAT} is known")
    default = decode_change("default", found["default"])
    surfaces = [decode_change(f"surfaces[{i}]", own) for i, own in enumerate(found["surfaces"])]
    if default.surface or not all(own.surface for own in surfaces):
        raise ValueError("surfaces have names, and the default has none")
    return Modes(
        generation=found["generation"],
        default=default,
        surfaces={own.surface: own for own in surfaces},
        history=tuple(decode_change(f"history[{i}]", change) for i, change in enumerate(found["history"])),
    )


def encode_change(change: Change) -> dict[str, Any]:
    return {
        "surface": change.surface,
        "mode": change.mode.kind.value,
        "percent": change.mode.percent,
        "who": change.who,
        "why": change.why,
        "unix_ms": change.unix_ms,
        "kill": change.kill,
    }


def decode_change(path: str, found: Any) -> Change:
    """The change of decoded JSON. path: its name in errors. Raises ValueError, InvalidQuery."""
    _check(path, found, _CHANGE)
    mode = Mode(Kind(found["mode"]), float(found["percent"]))
    return Change(found["surface"], mode, found["who"], found["why"], found["unix_ms"], found["kill"])


def _check(path: str, found: Any, expected: dict[str, Any]) -> None:
    if not isinstance(found, dict) or found.keys() != expected.keys():
        raise ValueError(f"{path} must be an object of {', '.join(expected)}")
    for name, kind in expected.items():
        value = found[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{path}.{name} does not hold {_short(value)}")
        if kind is int and not 0 <= value <= _MOST_INTEGER:
            raise ValueError(f"{path}.{name} must be 0 to 2^63 - 2, got {_short(value)}")
        if kind is str:
            value.encode()  # raises a ValueError for half of a surrogate pair


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
