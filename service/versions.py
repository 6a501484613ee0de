"""Which snapshot of each surface is served, kept up with the store while requests run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from meshfold.model.errors import InvalidQuery, SnapshotRefused, UnknownName
from meshfold.model.schema import nearest
from meshfold.service.errors import NothingServed, log_failure

if TYPE_CHECKING:
    from meshfold.model.store import Store
    from meshfold.service.runner import Runner

_log = logging.getLogger(__name__)

# One state of a folder: a snapshot that is published again under the same name is another.
_Stamp = tuple[Path, int, int]


class Versions:
    """Loads the newest whole snapshot of each surface and replaces it when a newer one is published.

    A request holds on to the runner it got, so a replacement shows between requests, and the old runner is
    freed with the last request that it answers. A snapshot that is refused leaves the served one in place.
    """

    def __init__(
        self,
        store: Store,
        open_runner: Callable[[Path, str], Runner],
        poll_interval_s: float,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """open_runner: (folder, surface) -> runner, raising SnapshotRefused. on_change: after each change."""
        self._store = store
        self._open_runner = open_runner
        self._poll_interval_s = poll_interval_s
        self._on_change = on_change
        self._runners: Mapping[str, Runner] = {}
        self._folders: dict[str, Path] = {}
        self._tried: set[_Stamp] = set()
        self._store_failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="meshfold-versions", daemon=True)

    @property
    def runners(self) -> Mapping[str, Runner]:
        """What is served, by surface; never changed, only replaced."""
        return self._runners

    def runner(self, surface: str) -> Runner:
        """The runner of a surface; "" stands for the only one.

        Raises NothingServed, UnknownName, or InvalidQuery where "" could be several.
        """
        runners = self._runners
        if not runners:
            raise NothingServed("no snapshot is published yet; publish one with `meshfold build`")
        if surface:
            if surface not in runners:
                raise UnknownName(f"no surface {surface!r} is served{nearest(surface, runners)}")
            return runners[surface]
        if len(runners) > 1:
            raise InvalidQuery("surface", f"several are served; name one of {', '.join(sorted(runners))}")
        return next(iter(runners.values()))

    def start(self) -> None:
        """Loads what is published, then keeps looking in the background."""
        self.refresh()
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Looks no more; waits up to grace_s for a load that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(grace_s)

    def refresh(self) -> None:
        """Looks at the store once. An unreadable store leaves everything as it is."""
        try:
            published = {surface: self._store.published(surface) for surface in self._store.surfaces()}
        except OSError as error:
            if not self._store_failed:
                _log.error("the store cannot be read, so nothing newer is served: %s", error)
            self._store_failed = True
            return
        self._store_failed = False
        for surface, folders in published.items():
            self._advance(surface, folders)

    def _poll(self) -> None:
        while not self._stop.wait(self._poll_interval_s):
            try:
                self.refresh()
            except Exception as error:  # the next look may succeed; without it the server would stay behind
                log_failure("looking for new snapshots failed", error)

    def _advance(self, surface: str, folders: list[Path]) -> None:
        """Serves the newest folder that loads, among those before the served one that were not tried."""
        served = self._folders.get(surface)
        newer = folders[: folders.index(served)] if served in folders else folders
        stamps = {folder: stamp for folder in folders if (stamp := _stamp(folder))}
        untried = [folder for folder in newer if folder in stamps and stamps[folder] not in self._tried]
        # Those older than what loads now count as tried: they are not to come back when it is removed.
        self._tried.update(stamps.values())
        for folder in untried:
            if self._load(surface, folder):
                return

    def _load(self, surface: str, folder: Path) -> bool:
        try:
            runner = self._open_runner(folder, surface)
        except SnapshotRefused as error:
            _log.error("surface %s: %s", surface, error)
            return False
        except Exception as error:  # a defect in one snapshot's loading must not end the others' service
            log_failure(f"surface {surface}: {folder} could not be loaded", error)
            return False
        self._folders[surface] = folder
        self._runners = {**self._runners, surface: runner}
        _log.info("surface %s: serving version %s from %s", surface, runner.version, folder)
        self._on_change()
        return True


def _stamp(folder: Path) -> _Stamp | None:
    """None where the folder is gone by now."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return folder, status.st_ino, status.st_mtime_ns
