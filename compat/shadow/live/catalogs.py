"""The catalogs of the live comparison: the snapshot of the version with which the model last answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from meshfold.model.errors import MeshfoldError

if TYPE_CHECKING:
    from meshfold.compat.shadow.catalog import SnapshotCatalog

# Seconds between attempts to open a surface's snapshot.
_PATIENCE_S = 10.0


class Catalogs:
    """The catalogs of a store, by surface."""

    def __init__(self, store: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._opened: dict[str, SnapshotCatalog] = {}
        self._tried_s: dict[str, float] = {}

    def of(self, surface: str, version: str) -> SnapshotCatalog | None:
        """The catalog of the model's answering version; None where it cannot be opened now."""
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
        # Imported at the first snapshot, since it imports torch.
        from meshfold.compat.shadow.catalog import SnapshotCatalog

        self._opened.pop(surface, None)
        try:
            opened = self._opened[surface] = SnapshotCatalog.open(self._store, surface)
        except (MeshfoldError, OSError):  # the server also loads it and logs the error
            return None
        return opened if opened.snapshot.version == version else None
