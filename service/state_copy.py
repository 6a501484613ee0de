"""A local copy of a shared state, used while its place cannot be reached."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshfold.service.state_file import last_bytes, sync_folder

_log = logging.getLogger(__name__)

COPIES = Path(".meshfold/copies")
_FORMAT = 1
# Bytes of a copy besides the state itself.
_FRAME_BYTES = 64 << 10


@dataclass(frozen=True)
class Written:
    """A written state. stamp: different for each write; "" in NOTHING. lineage: equal for all states that descend from
    one write to an empty place. generation: number of changes in the lineage. state: JSON."""

    stamp: str
    lineage: str
    generation: int
    state: str


# Stands for an empty place.
NOTHING = Written("", "", 0, "null")


class StateCopy:
    """One file for each place and kind, replaced by a rename; servers of one machine may share it."""

    def __init__(self, folder: Path, place: str, key: str, most_bytes: int) -> None:
        """place: recorded in the file, so that a copy of another place is not read. most_bytes: most bytes of a
        state."""
        digest = hashlib.sha256(place.encode()).hexdigest()[:12]
        self.path = folder / f"{key}-{digest}.json"
        self._place = place
        self._most_bytes = most_bytes + _FRAME_BYTES
        self._failed = False

    def read(self) -> Written | None:
        """The copy; None where there is none, or where it cannot be read, which is logged."""
        try:
            content = last_bytes(self.path, self._most_bytes)
        except OSError as error:
            _log.warning("the copy %s cannot be read: %s", self.path, error.strerror)
            return None
        try:
            return None if content is None else self._decoded(json.loads(content.decode()))
        except (ValueError, RecursionError) as error:
            _log.warning("%s holds no copy of %s, and is left out: %s", self.path, self._place, error)
            return None

    def write(self, written: Written) -> bool:
        """Writes the copy; returns whether it is durable. A failure is logged once and raises nothing."""
        content = {
            "format": _FORMAT,
            "place": self._place,
            "stamp": written.stamp,
            "lineage": written.lineage,
            "generation": written.generation,
            "state": written.state,
        }
        new = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with new.open("w", encoding="utf-8") as file:
                    json.dump(content, file, ensure_ascii=False)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(self.path)
            except BaseException:
                new.unlink(missing_ok=True)
                raise
            sync_folder(self.path.parent)
            self._failed = False
        except OSError as error:
            if not self._failed:
                _log.error(
                    "the copy %s cannot be written, so that a restart without %s would not know it: %s",
                    *(self.path, self._place, error.strerror),
                )
            self._failed = True
        return not self._failed

    def _decoded(self, found: Any) -> Written:
        """The state of decoded JSON. Raises ValueError."""
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            raise ValueError(f"an object of format {_FORMAT} is expected")
        if found.get("place") != self._place:
            raise ValueError(f"it is of another place, {found.get('place')!r}")
        texts = [found.get(name) for name in ("stamp", "lineage", "state")]
        generation = found.get("generation")
        if not all(isinstance(text, str) for text in texts) or type(generation) is not int:
            raise ValueError("stamp, lineage and state as text and generation as an integer are expected")
        stamp, lineage, state = (str(text) for text in texts)
        return Written(stamp, lineage, generation, state)
