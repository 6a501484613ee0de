"""The active snapshot of each surface, replaced while requests run as newer ones are published."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.model.errors import InvalidQuery, SnapshotRefused, UnknownName
from meshfold.model.schema import nearest
from meshfold.model.store import FolderState, Listing, state_of
from meshfold.service.errors import NothingServed, log_failure
from meshfold.service.niceness import BACKGROUND, be_nicer
from meshfold.service.retries import Retries

if TYPE_CHECKING:
    from meshfold.model.store import Store
    from meshfold.service.version_pins import VersionPins

_log = logging.getLogger(__name__)

# Most unknown entries of a store that one line of the log names.
_MOST_NAMED = 100


@dataclass(frozen=True, eq=False)
class Loaded:
    """A loaded snapshot. folder: its name in the store."""

    folder: str
    runner: Any


class Versions:
    """Loads the newest whole snapshot of each surface, or the pinned one, and replaces the active one by it.

    A request keeps the runner that it got, so that a replacement takes effect between requests and the old runner is
    freed with its last request. A refused snapshot leaves the active one in place and is tried again (see
    service/retries.py). Snapshots are loaded one after another, so that memory has at most one loading snapshot at a
    time. The store is listed again before each load; snapshots that have not failed come first, then surfaces without
    an active snapshot, then the smallest snapshot.
    """

    def __init__(
        self,
        store: Store,
        open_runner: Callable[[Path, str], Any],
        poll_interval_s: float,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        pins: VersionPins | None = None,
        check_room: Callable[[Path], None] = lambda _: None,
        hold_previous: bool = False,
        on_look: Callable[[], None] = lambda: None,
        may_serve: Callable[[], bool] = lambda: True,
        is_broken: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        """open_runner: (folder, surface) -> runner; raises SnapshotRefused. on_change: called after each change. clock:
        monotonic seconds. pins: None where every surface follows the newest. check_room: raises SnapshotRefused where a
        snapshot does not fit into free memory. hold_previous: whether the replaced version stays loaded, so that a
        roll-back need not load it. on_look: called after each listing of the store. may_serve: returns whether pins and
        denied items are known; until then nothing is loaded. is_broken: whether a runner has lost what it answers
        with, so that its snapshot is loaded again."""
        self._store = store
        self._open_runner = open_runner
        self._poll_interval_s = poll_interval_s
        self._on_change = on_change
        self._pins = pins
        self._check_room = check_room
        self._hold_previous = hold_previous
        self._on_look = on_look
        self._may_serve = may_serve
        self._is_broken = is_broken
        self._runners: Mapping[str, Any] = {}
        # The active folder of each surface, and the snapshot loaded beside it.
        self._served: dict[str, str] = {}
        self._held: dict[str, Loaded] = {}
        # _loading is locked while a snapshot is loaded, _swapping for moments; always in this order.
        self._loading, self._swapping = threading.Lock(), threading.Lock()
        self._swaps = 0
        self._retries = Retries(clock)
        self._named: Mapping[Path, str] = {}
        self._store_readable = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="meshfold-versions", daemon=True)

    @property
    def store_readable(self) -> bool:
        """Whether the last listing of the store succeeded."""
        return self._store_readable

    @property
    def failing(self) -> int:
        """Number of snapshots newer than the active ones that could not be loaded."""
        return self._retries.failing

    @property
    def swaps(self) -> int:
        """Number of snapshots activated so far."""
        return self._swaps

    def served_folder(self, surface: str) -> str:
        """The name of the active folder; "" for none."""
        return self._served.get(surface, "")

    def held_folder(self, surface: str) -> str:
        """The name of the folder loaded beside the active one; "" for none."""
        held = self._held.get(surface)
        return "" if held is None else held.folder

    def failure(self, folder: Path) -> str:
        """Why a snapshot could not be loaded; "" where it was not tried or did not fail."""
        return self._retries.message(folder)

    def served(self) -> Collection[str]:
        """The surfaces that have a runner."""
        return self._runners

    @property
    def runners(self) -> Mapping[str, Any]:
        """The active runners by surface; the mapping is replaced, never changed."""
        return self._runners

    def runner(self, surface: str) -> Any:
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
        """Loads the published snapshots, then looks for newer ones in the background."""
        self._refresh_or_log()
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Ends the background thread; waits up to grace_s for a running load."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(grace_s)

    def refresh(self) -> None:
        """Loads snapshots newer than the active ones. An unreadable store changes nothing."""
        self._forget_broken()
        tried: set[Path] = set()
        while not self._stop.is_set():
            listing = self._look()
            if listing is None:
                return
            due = self._due(listing, tried)
            if not due:
                return
            surface, folder, state = due[0]
            tried.add(folder)
            self._load(surface, folder, state)

    def load(self, surface: str, folder: Path) -> None:
        """Loads a snapshot beside the active one, in place of any other there. Raises SnapshotRefused."""
        with self._loading:
            if folder.name in (self.served_folder(surface), self.held_folder(surface)):
                return
            self._held.pop(surface, None)
            loaded = Loaded(folder.name, self._opened(surface, folder))
            with self._swapping:
                self._held[surface] = loaded

    def unload(self, surface: str) -> None:
        """Frees the snapshot loaded beside the active one."""
        with self._swapping:
            self._held.pop(surface, None)
        self._on_change()

    def activate(self, surface: str, folder: Path, pin: Callable[[], object]) -> None:
        """Activates a snapshot, loading it unless it is loaded beside the active one.

        pin: makes the choice durable; called once the snapshot is loaded, before it is active. Raises SnapshotRefused
        and the errors of pin, after which nothing has changed.
        """
        with self._swapping:
            held = self._held.get(surface)
            if folder.name == self.served_folder(surface):
                pin()
                return
            if held is not None and held.folder == folder.name:
                pin()
                self._swap(surface, held)
                return
        with self._loading:
            if folder.name != self.served_folder(surface):
                loaded = Loaded(folder.name, self._opened(surface, folder))
                with self._swapping:
                    pin()
                    self._swap(surface, loaded)
                return
        pin()

    def _poll(self) -> None:
        # Loading uses the processor time that callers leave.
        be_nicer(BACKGROUND)
        while not self._stop.wait(self._poll_interval_s):
            self._refresh_or_log()

    def _refresh_or_log(self) -> None:
        try:
            if self._pins is not None:
                self._pins.refresh()
            if not self._may_serve():
                return
            self.refresh()
            self._on_look()
        except Exception as error:  # an error must not end the thread, since the next look may succeed
            log_failure("looking for new snapshots failed", error)

    def _look(self) -> Listing | None:
        """The listing of the store; None where it cannot be read. Each new problem is logged once."""
        try:
            listing = self._store.look()
        except OSError as error:
            if self._store_readable:
                _log.error("the store cannot be read, so nothing newer is served: %s", _shown(error))
            self._store_readable = False
            return None
        if not self._store_readable:
            _log.warning("the store can be read again: %s", _shown(self._store.root))
        self._store_readable = True
        news = [(path, why) for path, why in listing.strange.items() if self._named.get(path) != why]
        for path, why in news[:_MOST_NAMED]:
            _log.warning("%s is left alone: %s", _shown(path), why)
        if len(news) > _MOST_NAMED:
            _log.warning("so are %d more", len(news) - _MOST_NAMED)
        self._named = listing.strange
        return listing

    def _forget_broken(self) -> None:
        """Drops active snapshots whose processes have ended, so that they are loaded again."""
        with self._swapping:
            for surface, runner in self._runners.items():
                if self._is_broken(runner):
                    self._served.pop(surface, None)
            for surface, held in list(self._held.items()):
                if self._is_broken(held.runner):
                    del self._held[surface]

    def _due(self, listing: Listing, tried: set[Path]) -> list[tuple[str, Path, FolderState]]:
        """The snapshots to try now, as (surface, folder, state of the folder), in the order of their tries."""
        newer = {
            folder: surface
            for surface, folders in listing.published.items()
            for folder in folders
            if self._is_wanted(surface, folder.name)
        }
        self._retries.keep(newer)
        order = []
        for folder, surface in newer.items():
            state = state_of(folder)
            if state is not None and folder not in tried and self._retries.due(folder, state):
                failures = self._retries.failures(folder)
                order.append(
                    (failures > 0, surface in self._runners, state.size_bytes, surface, folder, state)
                )
        # The newest snapshot of a surface comes before older ones that it would replace.
        newest = {
            surface: folder
            for *_, surface, folder, _ in sorted(order, key=lambda due: self._rank(due[3], due[4].name))
        }
        first = sorted((due for due in order if newest[due[3]] == due[4]), key=lambda due: due[:4])
        return [(surface, folder, state) for *_, surface, folder, state in first]

    def _is_wanted(self, surface: str, name: str) -> bool:
        """Whether a folder should replace the active one. Where no folder is active and the pinned one cannot be
        loaded, older ones are wanted too."""
        served, pinned = self.served_folder(surface), self._pinned(surface)
        if pinned and served:
            return name == pinned != served
        return not served or self._rank(surface, name) > self._rank(surface, served)

    def _rank(self, surface: str, name: str) -> tuple[int, str]:
        """The rank of a folder; the highest is served: the pinned folder, then older ones, or without a pin the
        newest."""
        pinned = self._pinned(surface)
        if not pinned:
            return 0, name
        return (2 if name == pinned else 1 if name < pinned else 0), name

    def _pinned(self, surface: str) -> str:
        return "" if self._pins is None else self._pins.current.folder(surface)

    def _load(self, surface: str, folder: Path, state: FolderState) -> None:
        with self._loading:
            # Another folder may have become the wanted one while this thread waited for a load.
            with self._swapping:
                if not self._is_wanted(surface, folder.name):
                    return
                held = self._held.get(surface)
            try:
                if held is not None and held.folder == folder.name:
                    loaded = held
                else:
                    loaded = Loaded(folder.name, self._opened(surface, folder))
            except SnapshotRefused as error:
                if self._retries.failed(folder, state, error):
                    _log.error("surface %s: %s", surface, _shown(error))
                return
            except Exception as error:  # an error of one snapshot must not affect the others
                if self._retries.failed(folder, state, error):
                    log_failure(f"surface {surface}: {_shown(folder)} could not be loaded", error)
                return
            with self._swapping:
                if self._is_wanted(surface, folder.name):
                    self._swap(surface, loaded)

    def _opened(self, surface: str, folder: Path) -> Any:
        """Opens a snapshot. Where memory is short, frees those loaded beside active ones. Raises SnapshotRefused."""
        try:
            self._check_room(folder)
        except SnapshotRefused as refusal:
            with self._swapping:
                self._held.clear()
            self._on_change()
            try:
                self._check_room(folder)
            except SnapshotRefused:
                if self._runners:
                    raise
                _log.warning("it is loaded all the same, for nothing is served yet: %s", _shown(refusal))
        return self._open_runner(folder, surface)

    def _swap(self, surface: str, loaded: Loaded) -> None:
        """Activates a loaded snapshot. The caller must have locked _swapping."""
        before = self._runners.get(surface)
        replaced, self._served[surface] = self.served_folder(surface), loaded.folder
        self._runners = {**self._runners, surface: loaded.runner}
        if self.held_folder(surface) == loaded.folder:
            del self._held[surface]
        if self._hold_previous and before is not None and "" < replaced < loaded.folder:
            self._held[surface] = Loaded(replaced, before)
        self._swaps += 1
        del before
        folder = self._store.root / surface / loaded.folder
        _log.info("surface %s: serving version %s from %s", surface, loaded.runner.version, _shown(folder))
        self._on_change()


def _shown(what: object) -> str:
    """A text for logs; bytes of file names that are not UTF-8 are escaped."""
    return str(what).encode("utf-8", "backslashreplace").decode()
