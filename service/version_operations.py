"""Operators' actions on versions: list, load, activate, roll back, follow the newest again, delete."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshfold.model.errors import InvalidQuery, SnapshotRefused, UnknownName, Unprepared
from meshfold.model.schema import nearest
from meshfold.model.store import Store, published_s
from meshfold.service.memory_room import SnapshotSize, size_of
from meshfold.service.retention import RetentionConfig, expired
from meshfold.service.version_pins import Action, VersionChange, VersionPins, change_now
from meshfold.service.versions import Versions

_log = logging.getLogger(__name__)

# Fewest digits of a hash that name a version.
_LEAST_DIGITS = 4
# Seconds between runs of retention without a swap.
_RETAIN_S = 60.0


@dataclass(frozen=True)
class ShownVersion:
    """A version in the store. folder: its name. is_held: whether it is loaded beside the active one. trouble: why it
    cannot be served, where known; "" for nothing. size: None where the manifest has none."""

    folder: str
    published_unix_ms: int
    size: SnapshotSize | None
    is_active: bool
    is_previous: bool
    is_pinned: bool
    is_held: bool
    trouble: str

    @property
    def version(self) -> str:
        """The hash; its first digits where the manifest cannot be read."""
        return self.folder.rpartition("-")[2] if self.size is None else self.size.version


@dataclass(frozen=True)
class SurfaceVersions:
    """The versions of a surface, newest first. pin: None where the surface follows the newest."""

    surface: str
    versions: Sequence[ShownVersion]
    pin: VersionChange | None


@dataclass(frozen=True)
class Deleted:
    surface: str
    folder: str
    disk_bytes: int


class VersionOperations:
    """Actions on versions, callable from any thread. They raise UnknownName where the store lacks the named surface."""

    def __init__(
        self,
        store: Store,
        versions: Versions,
        pins: VersionPins,
        retention: RetentionConfig,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """now_s: returns the seconds since 1970."""
        self._store, self._versions, self._pins = store, versions, pins
        self._retention = retention
        self._now_s = now_s
        self._retained = (-1, 0.0)
        self.deleted = 0

    @property
    def pins(self) -> VersionPins:
        return self._pins

    def shown(self, surface: str = "") -> list[SurfaceVersions]:
        """Lists versions. surface: "" for all. Raises Unprepared where the store cannot be read."""
        if surface:
            self._folders(surface)
        try:
            published = self._store.look().published
        except OSError as error:
            raise Unprepared(f"the store {self._store.root} cannot be read: {error.strerror}") from None
        return [self._shown(name, folders) for name, folders in published.items() if surface in ("", name)]

    def load(self, surface: str, version: str) -> Path:
        """Loads and warms a version beside the active one, so that activating it is immediate. Raises Unprepared where
        it is refused or does not fit into memory."""
        folder = self._find(surface, version)
        try:
            self._versions.load(surface, folder)
        except SnapshotRefused as error:
            raise Unprepared(str(error)) from None
        return folder

    def unload(self, surface: str) -> None:
        """Frees the version that `load` or `hold_previous` keeps beside the active one."""
        self._folders(surface)
        self._versions.unload(surface)

    def activate(self, surface: str, version: str, who: str, why: str) -> Path:
        """Serves a version and pins the surface to it. Raises Unprepared, InvalidQuery, NotDurable, after which the
        active version has not changed."""
        return self._serve(surface, self._find(surface, version), Action.ACTIVATE, who, why)

    def roll_back(self, surface: str, version: str, who: str, why: str) -> Path:
        """Activates an older version. version: "" for the newest one before the active one."""
        folders = self._folders(surface)
        active = self._versions.served_folder(surface)
        if version:
            folder = self._find(surface, version)
            if active and folder.name > active:
                raise InvalidQuery(
                    "version",
                    f"{folder.name} is newer than the active {active}; `meshfold versions activate` serves it",
                )
        else:
            name = _previous(folders, active)
            if not name:
                raise Unprepared(f"surface {surface} has no version that is older than the active one")
            folder = self._store.root / surface / name
        return self._serve(surface, folder, Action.ROLL_BACK, who, why)

    def follow(self, surface: str, who: str, why: str) -> None:
        """Ends the pin, so that the newest version is served again once it is loaded. Raises NotDurable."""
        if surface not in self._pins.current.surfaces:
            self._folders(surface)
            return
        self._pins.change(change_now(surface, "", Action.FOLLOW, who, why))

    def delete(
        self, surface: str, versions: Sequence[str], keep: int, days: float, who: str, why: str, is_dry: bool
    ) -> list[Deleted]:
        """Deletes the named versions; without names those that are not among the `keep` newest and older than `days`,
        one of which must be above 0.

        surface: "" for all, without names. is_dry: deletes nothing, only lists. Raises Unprepared where a named version
        is active, pinned, loaded or the previous one.
        """
        change_now(surface, "", Action.DELETE, who, why)
        if versions:
            folders = [self._find(surface, version) for version in versions]
            for folder in folders:
                if folder.name in self._protected(surface):
                    raise Unprepared(
                        f"{surface}/{folder.name} is active, pinned, loaded, or what a roll-back goes to; it stays"
                    )
            chosen = {surface: folders}
        else:
            if keep < 0 or not 0 <= days < 36_500 or not (keep or days):
                raise InvalidQuery(
                    "keep",
                    f"a number of versions or of days is needed where none is named; got {keep} and {days:g}",
                )
            chosen = self._expired(surface, keep, days)
        return self._deleted(chosen, who, why, is_dry)

    def retain(self) -> None:
        """Deletes the versions that the settings do not keep, after a swap, or else once a minute."""
        if not self._retention.deletes:
            return
        swaps, last_s = self._retained
        now_s = self._now_s()
        if swaps == self._versions.swaps and now_s - last_s < _RETAIN_S:
            return
        self._retained = self._versions.swaps, now_s
        chosen = self._expired("", self._retention.keep, self._retention.days)
        self._deleted(
            chosen, "retention", f"keep {self._retention.keep}, {self._retention.days:g} days", is_dry=False
        )

    def _serve(self, surface: str, folder: Path, action: str, who: str, why: str) -> Path:
        change = change_now(surface, folder.name, action, who, why)
        try:
            self._versions.activate(surface, folder, lambda: self._pins.change(change))
        except SnapshotRefused as error:
            raise Unprepared(f"{error} (what was served still is)") from None
        return folder

    def _expired(self, surface: str, keep: int, days: float) -> dict[str, list[Path]]:
        names = [surface] if surface else self._store.surfaces()
        return {
            name: expired(self._folders(name), self._protected(name), keep, days, self._now_s())
            for name in names
        }

    def _deleted(self, chosen: dict[str, list[Path]], who: str, why: str, is_dry: bool) -> list[Deleted]:
        deleted = []
        for surface, folders in chosen.items():
            for folder in folders:
                size = _disk_bytes(folder)
                if not is_dry:
                    self._delete(surface, folder, who, why)
                deleted.append(Deleted(surface, folder.name, size))
        return deleted

    def _delete(self, surface: str, folder: Path, who: str, why: str) -> None:
        """Deletes a version. Raises Unprepared."""
        try:
            gone = self._store.delete(folder)
        except OSError as error:
            raise Unprepared(f"{folder} cannot be deleted: {error.strerror}") from None
        if gone:
            self.deleted += 1
            _log.info("surface %s: version %s deleted by %r: %r", surface, folder.name, who, why)
            self._pins.change(change_now(surface, folder.name, Action.DELETE, who, why))

    def _protected(self, surface: str) -> set[str]:
        folders = self._folders(surface)
        active, pinned = self._versions.served_folder(surface), self._pins.current.folder(surface)
        named = {active, pinned, self._versions.held_folder(surface)}
        named |= {_previous(folders, name) for name in (active, pinned) if name}
        # Before a version is served, the newest is protected, which will be served.
        return (named | {folders[0].name}) - {""}

    def _shown(self, surface: str, folders: Sequence[Path]) -> SurfaceVersions:
        active = self._versions.served_folder(surface)
        pinned, previous = self._pins.current.folder(surface), _previous(folders, active)
        versions = []
        for folder in folders:
            trouble, size = self._versions.failure(folder), None
            try:
                size = size_of(folder)
            except SnapshotRefused as error:
                trouble = trouble or str(error)
            versions.append(
                ShownVersion(
                    folder.name,
                    round(published_s(folder) * 1000),
                    size,
                    folder.name == active,
                    folder.name == previous,
                    folder.name == pinned,
                    folder.name == self._versions.held_folder(surface),
                    trouble,
                )
            )
        return SurfaceVersions(surface, versions, self._pins.current.surfaces.get(surface))

    def _find(self, surface: str, version: str) -> Path:
        """The newest folder with that name, or whose version begins with those digits."""
        folders = self._folders(surface)
        for folder in folders:
            digits = folder.name.rpartition("-")[2]
            if folder.name == version or (len(version) >= _LEAST_DIGITS and _agree(digits, version)):
                return folder
        raise UnknownName(
            f"surface {surface} has no version {version!r}; give its folder's name or at least {_LEAST_DIGITS} digits"
            " of its hash, as `meshfold versions` shows them"
        )

    def _folders(self, surface: str) -> list[Path]:
        """The folders of a surface, newest first. Raises UnknownName where there are none."""
        if not surface:
            raise InvalidQuery("surface", "is empty; name one")
        try:
            published = self._store.look().published
        except OSError as error:
            raise Unprepared(f"the store {self._store.root} cannot be read: {error.strerror}") from None
        if surface not in published:
            raise UnknownName(
                f"no version of surface {surface!r} is in the store{nearest(surface, published)}"
            )
        return published[surface]


def _agree(digits: str, version: str) -> bool:
    """Whether one of the two begins with the other: digits given by an operator, and a version."""
    return digits.startswith(version) or (len(version) <= 64 and version.startswith(digits))


def _previous(folders: Sequence[Path], active: str) -> str:
    """The target of a roll-back: the newest folder before the active one; "" where there is none."""
    return max((folder.name for folder in folders if folder.name < active), default="")


def _disk_bytes(folder: Path) -> int:
    try:
        return size_of(folder).disk_bytes
    except SnapshotRefused:
        return 0
