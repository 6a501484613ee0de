"""Measured settings of the native search on this device. They change no answer."""

from __future__ import annotations

import ctypes
import math
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path

from meshfold.kernels.native import library


@dataclass(frozen=True)
class Tuning:
    """filter_first: evaluate a filter over all items, before any cluster is opened, if fewer than filter_first * budget
    are expected to pass. gather: read the survivors of a cluster one by one if they are a smaller share of it; else
    read the cluster whole. scan_ahead: prefetch distance of a scan in bytes, 0 for none; by default that of the
    processor."""

    filter_first: float = 1.0
    gather: float = 0.5
    scan_ahead: float = field(default_factory=lambda: _default_prefetch_bytes())

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number, at least 0, got {value!r}")


_in_use: Tuning | None = None


def in_use() -> Tuning:
    return _in_use or Tuning()


def use(tuning: Tuning) -> None:
    """Sets them for every later search of this process."""
    global _in_use
    if library.is_available():
        _function()(*vars(tuning).values())
    _in_use = tuning


@contextmanager
def using(tuning: Tuning) -> Iterator[None]:
    """Runs the body with other settings, to measure them."""
    before = in_use()
    use(tuning)
    try:
        yield
    finally:
        use(before)


def read_tuning(file: Path) -> Tuning:
    """Raises ValueError for a file that write_tuning does not write, OSError where it cannot be read."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a TOML file: {error}") from None
    known = [field.name for field in fields(Tuning)]
    unknown = sorted(table.keys() - known)
    if unknown:
        raise ValueError(f"{file}: unknown setting {unknown[0]}; known ones: {', '.join(known)}")
    try:
        return Tuning(**table)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def write_tuning(tuning: Tuning, file: Path, about: str) -> None:
    """Writes the file whole or not at all. about: lines for people, above the settings."""
    lines = [f"# {line}" for line in about.splitlines()]
    lines += [f"{field.name} = {float(getattr(tuning, field.name))!r}" for field in fields(tuning)]
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def _default_prefetch_bytes() -> float:
    try:
        return float(library.loaded().meshfold_usual_ahead())
    except RuntimeError:  # references do not prefetch
        return 0.0


@cache
def _function() -> ctypes._NamedFuncPointer:
    function = library.loaded().meshfold_tune
    function.argtypes = [ctypes.c_double] * 3
    function.restype = None
    return function
