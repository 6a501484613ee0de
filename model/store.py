"""The store of published snapshots: a folder for each surface, with a folder for each snapshot, sorted by time."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from meshfold.model.schema import NAME

_STAMP = "%Y%m%dT%H%M%S%fZ"
_PUBLISHED = re.compile(r"(\d{8}T\d{12}Z)-([0-9a-f]{12})\Z")
_PARTIAL = ".partial-"
# Prefix of the folder of a snapshot that is being deleted, which readers skip.
_DELETED = ".deleted-"
# Seconds after which a partial folder counts as left by a killed build.
_ABANDONED_S = 24 * 3600


# Limit of examined files of a folder; a snapshot has at most seven.
_MOST_FILES = 1000


@dataclass(frozen=True, eq=False)
class Listing:
    """The contents of a store. published: snapshot folders of each surface that has any, newest first. strange: other
    entries, each with the reason why it is skipped."""

    published: Mapping[str, list[Path]]
    strange: Mapping[Path, str]


@dataclass(frozen=True)
class FolderState:
    """The state of a snapshot's folder, which differs after any change. size_bytes: of its files."""

    size_bytes: int
    files: tuple[tuple[str, int, int, int, int], ...]


class Store:
    """A local folder of snapshots. A snapshot appears as a whole, by one rename, or not at all."""

    def __init__(self, root: Path, only: str = "") -> None:
        """only: the only surface to list; "" for all."""
        self.root = root
        self._only = only

    def look(self) -> Listing:
        """Lists the store; unreadable entries are in `strange`. Raises OSError where the store cannot be read."""
        published: dict[str, list[Path]] = {}
        strange: dict[Path, str] = {}
        for entry in _entries(self.root):
            if self._only and entry.name != self._only:
                continue
            if not NAME.match(entry.name):
                strange[entry] = "no name of a surface"
            elif (why := _no_folder(entry)) is not None:
                strange[entry] = why
            else:
                try:
                    folders, others = _snapshots(entry)
                except OSError as error:
                    strange[entry] = str(error.strerror)
                    continue
                strange.update(others)
                if folders:
                    published[entry.name] = folders
        return Listing(dict(sorted(published.items())), strange)

    def surfaces(self) -> list[str]:
        """Surfaces with something published, sorted."""
        return list(self.look().published) if self.root.is_dir() else []

    def published(self, surface: str) -> list[Path]:
        """Snapshot folders of a surface, newest first."""
        folder = self.root / surface
        return _snapshots(folder)[0] if _no_folder(folder) is None else []

    @contextmanager
    def partial(self, surface: str) -> Iterator[Path]:
        """A new hidden folder to write a snapshot into, which is removed unless it is published."""
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
        """Makes a written folder the newest snapshot and returns its path. If the newest snapshot has that version
        already, returns that snapshot's path instead."""
        published = self.published(surface)
        if published and published[0].name.endswith(f"-{version[:12]}"):
            return published[0]
        stamp = datetime.now(UTC)
        if published:
            newest = _PUBLISHED.match(published[0].name)
            assert newest is not None
            # A clock that was set back must not sort the new snapshot before older ones.
            after = datetime.strptime(newest[1], _STAMP).replace(tzinfo=UTC) + timedelta(microseconds=1)
            stamp = max(stamp, after)
        folder = self.root / surface / f"{stamp.strftime(_STAMP)}-{version[:12]}"
        sync_folder(partial)
        partial.rename(folder)
        sync_folder(folder.parent)
        sync_folder(self.root)
        return folder

    def delete(self, folder: Path) -> bool:
        """Hides a snapshot from readers by one rename, then removes it. Returns False where it is gone already.

        Raises OSError. The next deletion of the surface removes files left by a killed deletion.
        """
        hidden = folder.with_name(_DELETED + folder.name)
        try:
            folder.rename(hidden)
        except FileNotFoundError:
            return False
        sync_folder(folder.parent)
        for left in folder.parent.glob(f"{_DELETED}*"):
            shutil.rmtree(left, ignore_errors=True)
        return True


def published_s(folder: Path) -> float:
    """The time of publication of a snapshot, in seconds since 1970, from its folder's name."""
    stamp = datetime.strptime(folder.name.partition("-")[0], _STAMP)
    return stamp.replace(tzinfo=UTC).timestamp()


def state_of(folder: Path) -> FolderState | None:
    """The state of a folder; None where it no longer exists."""
    try:
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in islice(found, _MOST_FILES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        names = []
    files = []
    for name in ("", *names):
        try:
            status = os.stat(folder / name)
        except OSError as error:
            files.append((name, -1, error.errno or 0, 0, 0))
        else:
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            files.append((name, size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns))
    return FolderState(sum(max(size, 0) for _, size, *_ in files), tuple(files))


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder that are not hidden, sorted. Raises OSError."""
    with os.scandir(folder) as found:
        return sorted(folder / entry.name for entry in found if not entry.name.startswith("."))


def _snapshots(surface: Path) -> tuple[list[Path], dict[Path, str]]:
    """(a surface's snapshot folders, newest first; other entries with the reasons to skip them). Raises OSError."""
    folders, strange = [], {}
    for entry in _entries(surface):
        if not _PUBLISHED.match(entry.name):
            strange[entry] = "no name of a snapshot"
        elif (why := _no_folder(entry)) is not None:
            strange[entry] = why
        else:
            folders.append(entry)
    return folders[::-1], strange


def _no_folder(path: Path) -> str | None:
    """The reason why a path is no folder; None where it is one."""
    try:
        return None if stat.S_ISDIR(os.stat(path).st_mode) else "no folder"
    except OSError as error:
        return str(error.strerror)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
