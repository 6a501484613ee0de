"""Snapshots beside the pairs: each surface's newest one, opened again when the model answers with another version."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from meshfold.model.errors import MeshfoldError

if TYPE_CHECKING:
    from meshfold.compat.shadow.catalog import SnapshotCatalog

# Between attempts to open a surface's snapshot.
_PATIENCE_S = 10.0


class Catalogs:
    """Of a store, by surface."""

    def __init__(self, store: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._opened: dict[str, SnapshotCatalog] = {}
        self._tried_s: dict[str, float] = {}

    def of(self, surface: str, version: str) -> SnapshotCatalog | None:
        """The catalog of the version that the model answered with; None where it is not to be had now."""
        if not version:
            return None
        opened = self._opened.get(surface)
        if opened is not None and opened.snapshot.version == version:
            return opened
        now_s = self._clock()
        if now_s - self._tried_s.get(surface, float("-inf")) < _PATIENCE_S:
            return None
        self._tried_s[surface] = now_s
        if not (self._store / surface).is_dir():
            return None
        # Imported at the first snapshot: it brings torch.
        from meshfold.compat.shadow.catalog import SnapshotCatalog

        self._opened.pop(surface, None)
        try:
            opened = self._opened[surface] = SnapshotCatalog.open(self._store, surface)
        except (MeshfoldError, OSError):  # the server, which loads it too, tells why
            return None
        return opened if opened.snapshot.version == version else None
