"""A state in a file, with its history beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meshfold.model.errors import NotDurable
from meshfold.service.change_log import ChangeLog
from meshfold.service.state_file import StateFile
from meshfold.service.state_kind import Entry, State, StateKind

_log = logging.getLogger(__name__)


class LoggedFile(StateFile[State]):
    """Appends every change to FILE.history, also a change whose writer was killed before it could append it."""

    def __init__(
        self, path: Path, kind: StateKind[State], on_write: Callable[[State], None] = lambda _: None
    ) -> None:
        super().__init__(path, kind, self._written)
        self._log = ChangeLog(path.with_name(path.name + ".history"))
        self._then = on_write

    def change(self, change: Callable[[State | None], State]) -> State:
        def logged(kept: State | None) -> State:
            known = kept if kept is not None else self.last
            if known is not None:
                self._append(known, is_new=False)
            return change(kept)

        return super().change(logged)

    def history(self, count: int) -> Sequence[Mapping[str, Any]]:
        try:
            return self._log.latest(count)
        except OSError as error:
            raise NotDurable(f"{self.name}.history cannot be read: {error.strerror}") from None

    def _written(self, state: State) -> None:
        self._append(state, is_new=True)
        self._then(state)

    def _append(self, state: State, is_new: bool) -> None:
        """Appends missing changes to the history. A change that cannot be appended now is appended with the next."""
        entries = self._kind.changes(state)
        if not entries:
            return
        try:
            found = self._log.latest(1)
            logged = int(found[0]["generation"]) if found else 0
            if logged < entries[0][0]:
                missing = [entry for entry in entries if entry[0] > logged]
            else:
                # An older copy of the file may have been restored.
                missing = [entries[0]] if is_new and _line(entries[0]) != _text(found[0]) else []
            for generation, change in reversed(missing):
                self._log.append(generation, change)
        except OSError as error:
            _log.warning(
                "the change of the %s is kept, but not in %s.history: %s",
                *(self._kind.noun, self.name, error.strerror),
            )


def _line(entry: Entry) -> str:
    return _text({"generation": entry[0], **entry[1]})


def _text(found: Mapping[str, Any]) -> str:
    return json.dumps(found, sort_keys=True)
