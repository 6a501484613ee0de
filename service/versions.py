"""Which snapshot of each surface is served, kept up with the store while requests run."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.model.errors import InvalidQuery, SnapshotRefused, UnknownName
from meshfold.model.schema import nearest
from meshfold.model.store import FolderState, Listing, state_of
from meshfold.service.errors import NothingServed, log_failure
from meshfold.service.retries import Retries

if TYPE_CHECKING:
    from meshfold.model.store import Store
    from meshfold.service.version_pins import VersionPins

_log = logging.getLogger(__name__)

# Niceness of the thread that loads, beyond the process's own.
_NICE = 5
# Strange entries of a store that are named in the log at a time.
_MOST_NAMED = 100


@dataclass(frozen=True, eq=False)
class Loaded:
    """A snapshot that can answer. folder: its name in the store."""

    folder: str
    runner: Any


class Versions:
    """Loads the newest whole snapshot of each surface, or the one it is pinned to, and replaces what is served.

    A request holds on to the runner it got, so a replacement shows between requests, and the old runner is freed with
    the last request that it answers. A snapshot that is refused leaves the served one in place and is tried again, when
    its folder has changed or after a while (service/retries.py). Snapshots are loaded one after another, so that memory
    is never that of more than one beside what is held; before each, the store is looked at again, and the next is one
    that has not failed, of a surface that serves nothing, the smallest of those.
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
    ) -> None:
        """open_runner: (folder, surface) -> runner, raising SnapshotRefused. on_change: after each change.
        clock: seconds, never fewer than before. pins: None where every surface follows the newest. check_room: raises
        SnapshotRefused where a snapshot does not fit into memory beside what is held. hold_previous: whether the
        version that was replaced stays in memory, so that a roll-back need not load it. on_look: after each look at
        the store. may_serve: whether it is known what must not be served; before, nothing is loaded."""
        self._store = store
        self._open_runner = open_runner
        self._poll_interval_s = poll_interval_s
        self._on_change = on_change
        self._pins = pins
        self._check_room = check_room
        self._hold_previous = hold_previous
        self._on_look = on_look
        self._may_serve = may_serve
        self._runners: Mapping[str, Any] = {}
        # Of each surface, the folder that is served, and what is loaded beside it.
        self._served: dict[str, str] = {}
        self._held: dict[str, Loaded] = {}
        # The first is held while a snapshot is loaded, the second for moments; in this order.
        self._loading, self._swapping = threading.Lock(), threading.Lock()
        self._swaps = 0
        self._retries = Retries(clock)
        self._named: Mapping[Path, str] = {}
        self._store_readable = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="meshfold-versions", daemon=True)

    @property
    def store_readable(self) -> bool:
        """Whether the store was there when it was last looked at."""
        return self._store_readable

    @property
    def failing(self) -> int:
        """Snapshots newer than what is served that could not be loaded."""
        return self._retries.failing

    @property
    def swaps(self) -> int:
        """Snapshots that came into service."""
        return self._swaps

    def served_folder(self, surface: str) -> str:
        """The name of the folder that is served; "" for none."""
        return self._served.get(surface, "")

    def held_folder(self, surface: str) -> str:
        """The name of the folder that is loaded beside what is served; "" for none."""
        held = self._held.get(surface)
        return "" if held is None else held.folder

    def failure(self, folder: Path) -> str:
        """Why a snapshot could not be loaded; "" where it was not tried, or could."""
        return self._retries.message(folder)

    def served(self) -> Collection[str]:
        """The surfaces that have a runner."""
        return self._runners

    @property
    def runners(self) -> Mapping[str, Any]:
        """What is served, by surface; never changed, only replaced."""
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
        """Loads what is published and whole, then keeps looking in the background."""
        self._refresh_or_log()
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Looks no more; waits up to grace_s for a load that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(grace_s)

    def refresh(self) -> None:
        """Loads what is newer than what is served. An unreadable store leaves everything as it is."""
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
        """Loads a snapshot beside what is served, in place of another that is held so. Raises SnapshotRefused."""
        with self._loading:
            if folder.name in (self.served_folder(surface), self.held_folder(surface)):
                return
            self._held.pop(surface, None)
            loaded = Loaded(folder.name, self._opened(surface, folder))
            with self._swapping:
                self._held[surface] = loaded

    def unload(self, surface: str) -> None:
        """Frees what is held beside the served version."""
        with self._swapping:
            self._held.pop(surface, None)
        self._on_change()

    def activate(self, surface: str, folder: Path, pin: Callable[[], object]) -> None:
        """Serves a snapshot from now on. One that is held is not loaded again. pin: makes it last; called when the
        snapshot can answer, before it does.

        Raises SnapshotRefused, and what pin raises; then nothing has changed.
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
        # Loading takes what processor time callers leave.
        with suppress(OSError, AttributeError):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICE)
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
        except Exception as error:  # the next look may succeed; without it the server would stay behind
            log_failure("looking for new snapshots failed", error)

    def _look(self) -> Listing | None:
        """What the store holds; None where it cannot be read. Each change for the worse is logged once."""
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
        """What lost the processes that answer for it is not served any more, so that it is loaded again."""
        with self._swapping:
            for surface, runner in self._runners.items():
                if getattr(runner, "is_broken", False):
                    self._served.pop(surface, None)
            for surface, held in list(self._held.items()):
                if getattr(held.runner, "is_broken", False):
                    del self._held[surface]

    def _due(self, listing: Listing, tried: set[Path]) -> list[tuple[str, Path, FolderState]]:
        """(surface, folder, its state) of what is to be tried now, first things first."""
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
        # Of a surface the newest comes before those that it would replace.
        newest = {
            surface: folder
            for *_, surface, folder, _ in sorted(order, key=lambda due: self._rank(due[3], due[4].name))
        }
        first = sorted((due for due in order if newest[due[3]] == due[4]), key=lambda due: due[:4])
        return [(surface, folder, state) for *_, surface, folder, state in first]

    def _is_wanted(self, surface: str, name: str) -> bool:
        """Whether a folder is to be served in place of what is. Where a pinned one cannot be loaded and nothing is
        served, the newest that is older answers."""
        served, pinned = self.served_folder(surface), self._pinned(surface)
        if pinned and served:
            return name == pinned != served
        return not served or self._rank(surface, name) > self._rank(surface, served)

    def _rank(self, surface: str, name: str) -> tuple[int, str]:
        """More for what is rather to be served: the newest, or the pinned one, and then the newest that is older."""
        pinned = self._pinned(surface)
        if not pinned:
            return 0, name
        return (2 if name == pinned else 1 if name < pinned else 0), name

    def _pinned(self, surface: str) -> str:
        return "" if self._pins is None else self._pins.current.folder(surface)

    def _load(self, surface: str, folder: Path, state: FolderState) -> None:
        with self._loading:
            # It may have become another's turn while a load was waited for.
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
            except Exception as error:  # a defect in one snapshot's loading must not end the others' service
                if self._retries.failed(folder, state, error):
                    log_failure(f"surface {surface}: {_shown(folder)} could not be loaded", error)
                return
            with self._swapping:
                if self._is_wanted(surface, folder.name):
                    self._swap(surface, loaded)

    def _opened(self, surface: str, folder: Path) -> Any:
        """Raises SnapshotRefused. Where there is no room, what is held beside served versions makes some."""
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
        """Whoever calls it holds _swapping."""
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
    """For logs: names of files that are no UTF-8 with their bytes as escapes."""
    return str(what).encode("utf-8", "backslashreplace").decode()
