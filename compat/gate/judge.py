"""The gate's verdicts on pairs in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace

from meshfold.compat.gate.evidence import Evidence
from meshfold.compat.gate.gate import Gate
from meshfold.compat.gate.settings import GateSettings
from meshfold.compat.gate.verdict import Verdict
from meshfold.compat.shadow.attribution.causes import TOGETHER, Attribution
from meshfold.compat.shadow.attribution.mesh_facts import MeshFacts
from meshfold.compat.shadow.chosen_pairs import chance_of
from meshfold.compat.shadow.comparison import Difference
from meshfold.compat.shadow.pairs import OK, Pair
from meshfold.compat.shadow.skipped import Skipped
from meshfold.compat.shadow.store_snapshots import StoreSnapshots
from meshfold.model.errors import InvalidData
from meshfold.model.progress import Progress, silent

_STAGE = "judging pairs"


def judge(
    evidence: Evidence,
    settings: GateSettings,
    snapshots: StoreSnapshots,
    mesh: MeshFacts,
    most: int,
    skipped: Skipped,
    progress: Progress = silent,
) -> tuple[Verdict, ...]:
    """One verdict for each surface, sorted by name.

    mesh: known facts of the mesh. most: approximate number of a surface's pairs whose causes are computed, from users
    drawn by a hash. skipped: counts rows that are skipped.

    Raises InvalidData if no pair has answers of both sides, and SnapshotRefused.
    """
    differing, known = _look_through(snapshots.versions_of(evidence.pairs()), evidence.differences)
    if not differing:
        raise InvalidData(
            "no pair has answers of both sides; record with shadows, or have snapshots answer with --audit or --against"
        )
    with ExitStack() as stack:
        surfaces: dict[str, _Surface] = {}
        for surface, count in differing.items():
            catalog = snapshots.catalog(surface)
            if evidence.differences is not None:
                gate = Gate(settings, surface, catalog, known.is_drawn)
                surfaces[surface] = _Surface(gate, known.differences_of)
                continue
            share = max(1e-9, min(settings.causes_share, most / max(1, count)))
            gate = Gate(replace(settings, causes_share=share), surface, catalog)
            if catalog is None or not most:
                surfaces[surface] = _Surface(gate, lambda pairs: [None] * len(pairs))
                continue
            attribution = stack.enter_context(closing(Attribution(catalog.snapshot, mesh)))
            # An item that the mesh never answers with has no known cause, so attribution sees every pair first.
            for pair in evidence.pairs():
                if pair.surface == surface:
                    attribution.notice([pair])
            surfaces[surface] = _Surface(gate, attribution.differences_of)
        done = 0
        for done, pair in enumerate(evidence.pairs(skipped), 1):
            if pair.surface in surfaces:
                surfaces[pair.surface].add(pair)
            progress(_STAGE, done, done + 1)
        for one in surfaces.values():
            one.flush()
        progress(_STAGE, done, done)
        return tuple(surfaces[surface].gate.verdict() for surface in sorted(surfaces))


class _Surface:
    """A gate with causes computed for several of its pairs at once."""

    def __init__(
        self, gate: Gate, differences_of: Callable[[Sequence[Pair]], Sequence[tuple[Difference, ...] | None]]
    ) -> None:
        self.gate = gate
        self._differences_of = differences_of
        self._waiting: list[Pair] = []

    def add(self, pair: Pair) -> None:
        if self.gate.wants_causes(pair) and _differs(pair):
            self._waiting.append(pair)
            if len(self._waiting) == TOGETHER:
                self.flush()
        else:
            self.gate.add(pair, None)

    def flush(self) -> None:
        for pair, differences in zip(self._waiting, self._differences_of(self._waiting), strict=True):
            self.gate.add(pair, differences)
        self._waiting = []


class _Known:
    """Causes found by a comparison: for pairs drawn by chance, and for the worst pairs.

    The drawn pairs have the smallest hashes of their request ids. So pairs with a hash below that of every pair
    without causes are a sample that does not depend on answers, whichever were the worst.
    """

    def __init__(self, differences: Mapping[str, tuple[Difference, ...]]) -> None:
        self._differences = differences
        self._below = 1 << 64

    def see(self, pair: Pair) -> None:
        if pair.request_id not in self._differences:
            self._below = min(self._below, chance_of(pair.request_id))

    def is_drawn(self, pair: Pair) -> bool:
        return chance_of(pair.request_id) < self._below

    def differences_of(self, pairs: Sequence[Pair]) -> list[tuple[Difference, ...] | None]:
        return [self._differences.get(pair.request_id) for pair in pairs]


def _look_through(
    pairs: Iterable[Pair], differences: Mapping[str, tuple[Difference, ...]] | None
) -> tuple[Counter[str], _Known]:
    """The number of differing pairs of each surface with answers of both sides, and the known causes."""
    differing: Counter[str] = Counter()
    known = _Known(differences or {})
    for pair in pairs:
        if pair.mesh is not None and pair.model is not None:
            differs = _differs(pair)
            differing[pair.surface] += differs
            if differs:
                known.see(pair)
    return differing, known


def _differs(pair: Pair) -> bool:
    """Whether both sides answered, with different items."""
    mesh, model = pair.mesh, pair.model
    if mesh is None or model is None or not mesh.status == model.status == OK:
        return False
    return set(mesh.item_ids) != set(model.item_ids)
