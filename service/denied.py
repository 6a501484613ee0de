"""Denied items: items that are excluded from all answers of one or all surfaces, in every snapshot.

A takedown is durable before it is in effect, outlives restarts and swaps, and ends when it is undone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from meshfold.model.errors import InvalidConfig, InvalidQuery, NotDurable, UnknownName
from meshfold.service.state import begin, open_state
from meshfold.service.state_copy import COPIES
from meshfold.service.state_kind import Entry, StateKind, Unsure

_log = logging.getLogger(__name__)

# Seconds between reads of the shared place, which other servers may change.
POLL_S = 0.2
# Seconds that a change waits for the read or write before it.
_WAIT_S = 1.0
# Most denied items, and most of one call.
MOST_DENIED, MOST_IDS = 100_000, 10_000
MOST_ID_CHARACTERS, MOST_CHARACTERS = 1024, 1000
_FORMAT = 1
DENY, UNDO = "deny", "undo"


@dataclass(frozen=True)
class Takedown:
    """Items denied by one call. surface: "" for every surface. item_ids: text; integer ids in decimal digits."""

    surface: str
    item_ids: tuple[str, ...]
    who: str = ""
    why: str = ""
    unix_ms: int = 0


@dataclass(frozen=True)
class DeniedItems:
    """All denied items. generation: number of changes so far. last: the latest change, as the log has it."""

    generation: int = 0
    takedowns: tuple[Takedown, ...] = ()
    last: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return sum(len(takedown.item_ids) for takedown in self.takedowns)

    def of(self, surface: str) -> tuple[str, ...]:
        """The denied ids of a surface, each once."""
        ids = (i for t in self.takedowns if t.surface in ("", surface) for i in t.item_ids)
        return tuple(dict.fromkeys(ids))

    def with_denied(self, new: Takedown) -> DeniedItems:
        """Adds a takedown; returns the same object where it changes nothing. Raises InvalidQuery beyond MOST_DENIED."""
        known = {i for t in self.takedowns if t.surface == new.surface for i in t.item_ids}
        added = tuple(i for i in dict.fromkeys(new.item_ids) if i not in known)
        if not added:
            return self
        if len(self) + len(added) > MOST_DENIED:
            raise InvalidQuery(
                "item_ids",
                f"{len(self)} items are denied, and at most {MOST_DENIED} may be; undo those that no catalog holds"
                " (`meshfold deny --list`)",
            )
        taken = Takedown(new.surface, added, new.who, new.why, new.unix_ms)
        return self._next(DENY, taken, (*self.takedowns, taken))

    def without(self, undone: Takedown) -> DeniedItems:
        """Removes denied items. Raises UnknownName where one of them is not denied on that surface."""
        known = {i for t in self.takedowns if t.surface == undone.surface for i in t.item_ids}
        for item_id in undone.item_ids:
            if item_id not in known:
                raise UnknownName(
                    f"item {item_id!r} is not denied {where(undone.surface)}{self._elsewhere(item_id)}"
                )
        gone = set(undone.item_ids)
        rest = []
        for takedown in self.takedowns:
            ids = takedown.item_ids
            if takedown.surface == undone.surface:
                ids = tuple(i for i in ids if i not in gone)
            if ids:
                rest.append(Takedown(takedown.surface, ids, takedown.who, takedown.why, takedown.unix_ms))
        return self._next(UNDO, undone, rest)

    def _elsewhere(self, item_id: str) -> str:
        found = [where(t.surface) for t in self.takedowns if item_id in t.item_ids]
        return f"; it is {' and '.join(found)}" if found else ""

    def _next(self, action: str, change: Takedown, takedowns: Iterable[Takedown]) -> DeniedItems:
        return DeniedItems(self.generation + 1, tuple(takedowns), {"action": action, **asdict(change)})


def where(surface: str) -> str:
    return f"on surface {surface}" if surface else "on every surface"


class Denied:
    """The denied items in effect, and the only code that changes them.

    From start() to stop() a thread reads other servers' changes every POLL_S. Reading `current` takes no lock.
    """

    def __init__(
        self, place: str | Path, on_change: Callable[[], None] = lambda: None, copies: Path = COPIES
    ) -> None:
        """place: a file or a place in Redis. copies: see open_state. on_change: called after a change is in effect.

        Raises InvalidConfig where the content of the place cannot be decoded: to serve denied items would be worse than
        not to serve.
        """
        self._shared = open_state(str(place), _KIND, copies=copies)
        self._on_change = on_change
        # The lock for reads and writes of the place.
        self._writing = threading.Lock()
        self._kept, self._unreadable = begin(self._shared, "the model serves nothing until they are read")
        self.current = DeniedItems() if self._kept is None else self._kept
        self._ids: dict[str, tuple[str, ...]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="meshfold-denied", daemon=True)

    @property
    def is_known(self) -> bool:
        """Whether this machine ever read the place, empty or not."""
        return self._shared.is_seen

    @property
    def trouble(self) -> str:
        """What is wrong with the shared place; "" for nothing."""
        return self._unreadable

    def of(self, surface: str) -> tuple[str, ...]:
        """The denied ids of a surface; the same object until something changes."""
        ids = self._ids
        if surface not in ids:
            ids[surface] = self.current.of(surface)
        return ids[surface]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_WAIT_S)
        self._shared.close()

    def deny(self, surface: str, item_ids: Sequence[str], who: str, why: str) -> DeniedItems:
        """Denies items, durably and in effect on return. Raises InvalidQuery, NotDurable."""
        takedown = _takedown(surface, item_ids, who, why)
        return self._change(lambda items: items.with_denied(takedown))

    def undo(self, surface: str, item_ids: Sequence[str], who: str, why: str) -> DeniedItems:
        """Ends the denial of items. Raises InvalidQuery, UnknownName where one is not denied, NotDurable."""
        takedown = _takedown(surface, item_ids, who, why)
        return self._change(lambda items: items.without(takedown))

    def history(self, count: int) -> Sequence[Mapping[str, Any]]:
        """The latest changes, newest first. Raises NotDurable where they cannot be read."""
        return self._shared.history(count)

    def _change(self, change: Callable[[DeniedItems], DeniedItems]) -> DeniedItems:
        if not self._writing.acquire(timeout=_WAIT_S):
            raise NotDurable(
                f"{self._shared.name} has been read or written for over {_WAIT_S:g} s; try again"
            )
        try:
            state = self._shared.change(lambda kept: self._next(kept, change))
            self._put_in_effect(state)
        except Unsure:
            raise
        except (InvalidConfig, NotDurable) as error:
            raise NotDurable(f"nothing was changed: {error}") from None
        finally:
            self._writing.release()
        self._on_change()
        return state

    def _put_in_effect(self, state: DeniedItems) -> None:
        self._kept = state
        self.current = state
        # Cleared after `current` is set, so that a reader who finds no ids computes them from the new items.
        self._ids = {}
        self._unreadable = ""

    def _next(self, kept: DeniedItems | None, change: Callable[[DeniedItems], DeniedItems]) -> DeniedItems:
        # Where the file is gone, the last known items count. Compared with None, since an empty DeniedItems is false.
        return change(next((items for items in (kept, self._kept) if items is not None), DeniedItems()))

    def _work(self) -> None:
        while not self._stopping.wait(POLL_S):
            try:
                if self._follow():
                    self._on_change()
            except Exception as error:  # an unforeseen error must not end the thread
                self._lost(f"{type(error).__qualname__}: {error}")

    def _follow(self) -> bool:
        """Reads the place; returns whether something changed."""
        # The thread that has the lock reads the place.
        if not self._writing.acquire(blocking=False):
            return False
        try:
            kept = self._shared.read()
            if kept is None and self._kept is not None:
                self._lost(f"{self._shared.name} is gone; the next change writes it again")
            elif kept is not None and kept is not self._kept and kept != self._kept:
                _log.info("denied items: %d now, generation %d", len(kept), kept.generation)
                self._put_in_effect(kept)
                return True
            elif self._unreadable:
                _log.warning("the denied items in %s can be read again", self._shared.name)
                self._unreadable = ""
        except InvalidConfig as error:
            self._lost(str(error))
        finally:
            self._writing.release()
        return False

    def _lost(self, reason: str) -> None:
        if not self._unreadable:
            _log.error("the denied items stay as they are, changes of other servers are not seen: %s", reason)
        self._unreadable = reason


def _takedown(surface: str, item_ids: Sequence[str], who: str, why: str) -> Takedown:
    """Checks an operator's input. Raises InvalidQuery."""
    if not who:
        raise InvalidQuery("who", "is empty; say who asks for it")
    for name, text in (("surface", surface), ("who", who), ("why", why)):
        if len(text) > MOST_CHARACTERS:
            raise InvalidQuery(name, f"has {len(text)} characters; at most {MOST_CHARACTERS} are allowed")
    if not 0 < len(item_ids) <= MOST_IDS:
        raise InvalidQuery("item_ids", f"must be 1 to {MOST_IDS} ids, got {len(item_ids)}")
    for place, item_id in enumerate(item_ids):
        if not 0 < len(item_id) <= MOST_ID_CHARACTERS:
            raise InvalidQuery(
                f"item_ids[{place}]", f"must have 1 to {MOST_ID_CHARACTERS} characters, got {len(item_id)}"
            )
    return Takedown(surface, tuple(item_ids), who, why, time.time_ns() // 1_000_000)


def _changes(items: DeniedItems) -> Sequence[Entry]:
    return [(items.generation, items.last)] if items.last else []


def _encode(items: DeniedItems) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "generation": items.generation,
        "takedowns": [asdict(takedown) for takedown in items.takedowns],
        "last": dict(items.last),
    }


def _decode(found: Any) -> DeniedItems:
    """The denied items of decoded JSON. Raises ValueError."""
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise ValueError(f"an object of format {_FORMAT} is expected")
    generation, takedowns, last = (found.get(name) for name in ("generation", "takedowns", "last"))
    if type(generation) is not int or not isinstance(takedowns, list) or not isinstance(last, dict):
        raise ValueError("generation, takedowns and last are expected")
    items = DeniedItems(generation, tuple(_decoded(i, one) for i, one in enumerate(takedowns)), last)
    if len(items) > MOST_DENIED:
        raise ValueError(f"{len(items)} items are denied, and at most {MOST_DENIED} may be")
    return items


def _decoded(place: int, found: Any) -> Takedown:
    names = ("surface", "who", "why")
    texts: list[Any] = [found.get(name) for name in names] if isinstance(found, dict) else [None]
    ids = found.get("item_ids") if isinstance(found, dict) else None
    if not isinstance(ids, list) or not all(isinstance(text, str) for text in (*texts, *ids)):
        raise ValueError(f"takedowns[{place}] must hold surface, who, why and item_ids as text")
    if type(found.get("unix_ms")) is not int:
        raise ValueError(f"takedowns[{place}].unix_ms must be an integer")
    return Takedown(texts[0], tuple(ids), texts[1], texts[2], found["unix_ms"])


_KIND = StateKind(
    noun="denied items",
    remedy="put back a copy, or remove it to deny nothing",
    encode=_encode,
    decode=_decode,
    most_bytes=32 << 20,
    changes=_changes,
)
