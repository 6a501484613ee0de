"""Causes of differing items in pairs, by the snapshot that the model answered with."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from meshfold.compat.shadow.attribution.causes import Attribution
from meshfold.compat.shadow.attribution.mesh_facts import MeshFacts
from meshfold.compat.shadow.catalog import SnapshotCatalog
from meshfold.compat.shadow.comparison import Difference
from meshfold.compat.shadow.pairs import Pair
from meshfold.model.errors import SnapshotRefused
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store

_log = logging.getLogger(__name__)

# Seconds between attempts to open a snapshot that the store lacks.
_PATIENCE_S = 10.0


class Causes:
    """Snapshots of a store, opened when the model answers with them; one per surface stays open."""

    def __init__(self, store: Path, mesh: MeshFacts) -> None:
        """mesh: known facts of the mesh."""
        self._store = store
        self._mesh = mesh
        # The open version of each surface, with its catalog and its attribution.
        self._opened: dict[str, tuple[str, SnapshotCatalog, Attribution]] = {}
        # The version of each surface that could not be opened, and the time of that attempt.
        self._refused: dict[str, tuple[str, float]] = {}

    def close(self) -> None:
        for _, _, attribution in self._opened.values():
            attribution.close()
        self._opened.clear()

    def catalog(self, surface: str, version: str) -> SnapshotCatalog | None:
        """The catalog of a version; None if the store lacks it."""
        opened = self._of(surface, version)
        return opened and opened[1]

    def notice(self, surface: str, version: str, pairs: Sequence[Pair]) -> None:
        """Learns from the mesh's answers which items the mesh has."""
        if (opened := self._of(surface, version)) is not None:
            opened[2].notice(pairs)

    def of(self, surface: str, version: str, pairs: Sequence[Pair]) -> Mapping[str, tuple[Difference, ...]]:
        """Differences with their causes by request id. A pair without an entry has no known causes."""
        opened = self._of(surface, version)
        known = [pair for pair in pairs if pair.request and not pair.is_redacted]
        if opened is None or not known:
            return {}
        attribution = opened[2]
        before = set(attribution.counted)
        found = attribution.differences_of(known)
        for why in attribution.counted.keys() - before:
            _log.warning("causes of pairs of %r stay unknown: %s", surface, why)
        return {pair.request_id: differences for pair, differences in zip(known, found, strict=True)}

    def newest(self, surface: str) -> str:
        """The first 12 digits of the store's newest version; "" if the store has none."""
        try:
            folders = self._folders(surface)
        except OSError:
            return ""
        return folders[0].name.rpartition("-")[2] if folders else ""

    def _of(self, surface: str, version: str) -> tuple[str, SnapshotCatalog, Attribution] | None:
        opened = self._opened.get(surface)
        if opened is not None and opened[0] == version:
            return opened
        refused = self._refused.get(surface)
        if not version or (refused and refused[0] == version and time.monotonic() - refused[1] < _PATIENCE_S):
            return None
        if opened is not None:
            opened[2].close()
            del self._opened[surface]
        try:
            snapshot = self._snapshot(surface, version)
        except (SnapshotRefused, OSError) as error:
            _log.warning("the pairs of %r wait: %s", surface, error)
            self._refused[surface] = (version, time.monotonic())
            return None
        found = (version, SnapshotCatalog(snapshot), Attribution(snapshot, self._mesh))
        self._opened[surface] = found
        return found

    def _snapshot(self, surface: str, version: str) -> Snapshot:
        """Opens a version. Raises SnapshotRefused, OSError."""
        folder = next((f for f in self._folders(surface) if f.name.endswith(f"-{version[:12]}")), None)
        if folder is None:
            raise SnapshotRefused(f"{self._store} does not hold the version {version} of {surface!r}")
        return Snapshot.open(folder, folder.parent.name)

    def _folders(self, surface: str) -> Sequence[Path]:
        """Folders of a surface's snapshots, newest first. Raises OSError."""
        published = Store(self._store).look().published
        # A surface without a name is the only one of the store.
        name = surface or (next(iter(published)) if len(published) == 1 else "")
        return published.get(name, [])
