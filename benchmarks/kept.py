"""Folders that are made once and kept between runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(home: Path, make: Callable[[], object], marker: str = "made") -> None:
    """Calls `make` with `home` empty, unless an earlier call ended; the marker is a file in `home`."""
    if (home / marker).exists():
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    make()
    (home / marker).touch()


def made_whole(folder: Path, make: Callable[[Path], object]) -> Path:
    """The folder. `make` writes it under another name first, so that a killed run leaves none."""
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        make(partial)
        partial.rename(folder)
    return folder
