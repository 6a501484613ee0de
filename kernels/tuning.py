"""How a search goes about it on this device: measured settings of its native kernel, which change no answer."""

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

from meshfold.kernels import native


@dataclass(frozen=True)
class Tuning:
    """filter_first: a filter is evaluated for all items before any cluster is opened where fewer than so many times
    the budget are expected to pass. gather: the survivors of a cluster are read one by one where they are a smaller
    share of it; else the cluster is read whole. scan_ahead: bytes of scanned items that are asked for before their
    turn; as usual on this processor unless said, 0 for none."""

    filter_first: float = 1.0
    gather: float = 0.5
    scan_ahead: float = field(default_factory=lambda: _usual_ahead())

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number, at least 0, got {value!r}")


_in_use: Tuning | None = None


def in_use() -> Tuning:
    return _in_use or Tuning()


def use(tuning: Tuning) -> None:
    """For every search of this process from now on; nothing where the reference runs."""
    global _in_use
    if native.library() is not None:
        _function()(*vars(tuning).values())
    _in_use = tuning


@contextmanager
def using(tuning: Tuning) -> Iterator[None]:
    """Runs what is inside with other settings: to measure them."""
    before = in_use()
    use(tuning)
    try:
        yield
    finally:
        use(before)


def read_tuning(file: Path) -> Tuning:
    """Raises ValueError where the file is not what write_tuning writes, OSError where it cannot be read."""
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


def _usual_ahead() -> float:
    try:
        return float(native.loaded().meshfold_usual_ahead())
    except RuntimeError:  # references read nothing ahead
        return 0.0


@cache
def _function() -> ctypes._NamedFuncPointer:
    function = native.loaded().meshfold_tune
    function.argtypes = [ctypes.c_double] * 3
    function.restype = None
    return function
