"""Where snapshots are published: one folder a surface, in it one folder a snapshot, newest last by name."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from meshfold.model.schema import NAME

_STAMP = "%Y%m%dT%H%M%S%fZ"
_PUBLISHED = re.compile(r"(\d{8}T\d{12}Z)-([0-9a-f]{12})\Z")
_PARTIAL = ".partial-"
# A partial folder this old is what a killed build left behind.
_ABANDONED_S = 24 * 3600


class Store:
    """A local folder of snapshots. A snapshot appears whole, by one rename, or not at all."""

    def __init__(self, root: Path, only: str = "") -> None:
        """only: the surface to look for; "" for all of them."""
        self.root = root
        self._only = only

    def surfaces(self) -> list[str]:
        """Surfaces with something published, sorted."""
        if not self.root.is_dir():
            return []
        names = [p.name for p in self.root.iterdir() if NAME.match(p.name) and self._only in ("", p.name)]
        return sorted(name for name in names if self.published(name))

    def published(self, surface: str) -> list[Path]:
        """Snapshot folders of a surface, newest first."""
        folder = self.root / surface
        if not folder.is_dir():
            return []
        whole = [p for p in folder.iterdir() if _PUBLISHED.match(p.name)]
        return sorted(whole, key=lambda p: p.name, reverse=True)

    @contextmanager
    def partial(self, surface: str) -> Iterator[Path]:
        """A new folder to write a snapshot into, out of readers' sight; removed unless it is published."""
        folder = self.root / surface
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{_PARTIAL}*"):
            if time.time() - old.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(old, ignore_errors=True)
        partial = folder / f"{_PARTIAL}{secrets.token_hex(8)}"
        partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def publish(self, surface: str, partial: Path, version: str) -> Path:
        """Makes a written and synced folder the newest snapshot. Returns the newest as it is, if it already
        has that version."""
        published = self.published(surface)
        if published and published[0].name.endswith(f"-{version[:12]}"):
            return published[0]
        stamp = datetime.now(UTC)
        if published:
            newest = _PUBLISHED.match(published[0].name)
            assert newest is not None
            # A clock that went back must not hide what is published now.
            after = datetime.strptime(newest[1], _STAMP).replace(tzinfo=UTC) + timedelta(microseconds=1)
            stamp = max(stamp, after)
        folder = self.root / surface / f"{stamp.strftime(_STAMP)}-{version[:12]}"
        sync_folder(partial)
        partial.rename(folder)
        sync_folder(folder.parent)
        sync_folder(self.root)
        return folder


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
