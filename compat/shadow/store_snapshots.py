"""Uses the snapshots of a store for a comparison: a catalog for each surface, and the causes of differences."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from meshfold.compat.shadow.attribution.causes import TOGETHER, Attribution
from meshfold.compat.shadow.attribution.mesh_facts import MeshFacts
from meshfold.compat.shadow.catalog import SnapshotCatalog
from meshfold.compat.shadow.chosen_pairs import ChosenPairs
from meshfold.compat.shadow.comparison import Difference
from meshfold.compat.shadow.pairs import Pair
from meshfold.model.errors import SnapshotRefused
from meshfold.model.progress import Progress, silent
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store


class StoreSnapshots:
    """Chooses for each surface the snapshot of most of the model's answers, where the store has it, else the newest.

    notes: a sentence for each surface with answers of other versions, or without a snapshot. counted: number of pairs
    whose causes stay unknown, by reason.
    """

    def __init__(self, store: Path, progress: Progress = silent) -> None:
        """Raises SnapshotRefused where nothing is published."""
        try:
            self._published = Store(store).look().published
        except OSError as error:
            raise SnapshotRefused(f"{store} cannot be read as a store: {error.strerror}") from None
        if not self._published:
            raise SnapshotRefused(f"{store} holds no snapshot; publish one with `meshfold build`")
        self._store = store
        self._progress = progress
        self._versions: dict[str, Counter[str]] = {}
        self._catalogs: dict[str, SnapshotCatalog | None] = {}
        self.notes: list[str] = []
        self.counted: Counter[str] = Counter()

    def catalog(self, surface: str) -> SnapshotCatalog | None:
        """The catalog of a surface; None where the store has no snapshot of it. Raises SnapshotRefused."""
        if surface not in self._catalogs:
            self._catalogs[surface] = self._open(surface)
        return self._catalogs[surface]

    def versions_of(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Yields the pairs, counting the versions that answered; must be read before `catalog` is called."""
        total = 0
        for total, pair in enumerate(pairs, 1):
            if pair.model is not None and pair.model.version:
                self._versions.setdefault(pair.surface, Counter())[pair.model.version] += 1
            self._progress("choosing pairs", total, total + 1)
            yield pair
        self._progress("choosing pairs", total, total)

    def differences(
        self, pairs: Callable[[], Iterable[Pair]], most: int, mesh: MeshFacts
    ) -> dict[str, tuple[Difference, ...]]:
        """Attributes at most `most` pairs of each surface, half of them the worst; returns differences by request id.

        pairs: is called and read twice.

        Raises SnapshotRefused.
        """
        chosen: dict[str, ChosenPairs] = {}
        hashes = array("q")
        for pair in self.versions_of(pairs()):
            chosen.setdefault(pair.surface, ChosenPairs(most)).offer(pair)
            hashes.append(hash(pair.request_id))
        found: dict[str, tuple[Difference, ...]] = {}
        # Differences are stored by request id, so that ids of several pairs are left out.
        ids, times = np.unique(np.array(hashes, np.int64), return_counts=True)
        repeated = frozenset(ids[times > 1].tolist())
        wanted: dict[str, frozenset[str]] = {}
        for surface, one in chosen.items():
            alone = frozenset(
                request_id for request_id in one.request_ids if hash(request_id) not in repeated
            )
            if left_out := len(one.request_ids) - len(alone):
                self.counted["pairs without causes, as others have their request id"] += left_out
            if alone:
                wanted[surface] = alone
        for surface, request_ids in wanted.items():
            catalog = self.catalog(surface)
            if catalog is None:
                continue
            attribution = Attribution(catalog.snapshot, mesh)
            try:
                own = (pair for pair in pairs() if pair.surface == surface)
                found |= self._explained(attribution, own, request_ids)
            finally:
                attribution.close()
            for why, count in attribution.counted.items():
                self.counted[f"pairs without causes, as {why}"] += count
        return found

    def _explained(
        self, attribution: Attribution, pairs: Iterable[Pair], request_ids: frozenset[str]
    ) -> dict[str, tuple[Difference, ...]]:
        """Learns the mesh's items from all pairs, then attributes the chosen ones, which stay in memory until then."""
        asked: list[Pair] = []
        for pair in pairs:
            attribution.notice([pair])
            if pair.request_id in request_ids:
                asked.append(pair)
        found: dict[str, tuple[Difference, ...]] = {}
        stage = "looking for causes"
        for start in range(0, len(asked), TOGETHER):
            self._progress(stage, start, len(asked))
            some = asked[start : start + TOGETHER]
            for pair, differences in zip(some, attribution.differences_of(some), strict=True):
                found[pair.request_id] = differences
        self._progress(stage, len(asked), len(asked))
        return found

    def _open(self, surface: str) -> SnapshotCatalog | None:
        name = surface
        if not surface and len(self._published) == 1:  # the only surface served
            name = next(iter(self._published))
        folders = self._published.get(name)
        if not folders:
            self.notes.append(
                f"The store {self._store} has no snapshot of surface {surface!r}: no violations, exposure and causes."
            )
            return None
        versions = self._versions.get(surface, Counter())
        usual = versions.most_common(1)[0][0] if versions else ""
        folder = next((one for one in folders if usual and one.name.endswith(f"-{usual[:12]}")), folders[0])
        snapshot = Snapshot.open(folder, name)
        others = versions.total() - versions[snapshot.version]
        if others:
            self.notes.append(
                f"{others} of the model's answers on surface {surface!r} are of other versions than the snapshot "
                f"{snapshot.version}: their violations, exposure and causes are those that hold in this snapshot."
            )
        return SnapshotCatalog(snapshot)
