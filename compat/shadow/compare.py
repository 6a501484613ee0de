"""Compares pairs in one pass. Memory has numbers for each pair, and whole answers only for a few worst pairs."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from meshfold.compat.shadow.compare_settings import CompareSettings
from meshfold.compat.shadow.comparison import (
    Catalog,
    Comparison,
    Difference,
    Example,
    Slice,
    SurfaceComparison,
)
from meshfold.compat.shadow.exposure import ExposureCounts, user_share_of
from meshfold.compat.shadow.measured_pairs import MeasuredColumns, MeasuredPairs
from meshfold.compat.shadow.pair_measures import measure
from meshfold.compat.shadow.pairs import Pair
from meshfold.compat.shadow.score_drift import ScoreSample
from meshfold.compat.shadow.side_counts import SideCounts
from meshfold.compat.shadow.slice_tests import SlicedPairs, slices_against_rest, worst_first
from meshfold.compat.shadow.slice_values import SliceColumn, SliceColumns, slices_of
from meshfold.compat.shadow.worst_pairs import WorstPairs

Differences = Mapping[str, tuple[Difference, ...]]
# Most surfaces, since the input decides their names.
_MAX_SURFACES = 1000


def compare(
    pairs: Iterable[Pair],
    catalog: Callable[[str], Catalog | None] = lambda surface: None,
    differences: Differences | None = None,
    settings: CompareSettings | None = None,
) -> Comparison:
    """Compares the pairs of each surface.

    catalog: returns the catalog of a surface, or None, without which there are no violations, exposure and titles.
    differences: of attributed pairs, by request id. A pair without a user key counts as a separate user.
    """
    settings = settings or CompareSettings()
    fold = _Fold(catalog, differences or {}, settings)
    for pair in pairs:
        fold.add(pair)
    return fold.comparison()


class _Fold:
    def __init__(
        self,
        catalog: Callable[[str], Catalog | None],
        differences: Differences,
        settings: CompareSettings,
    ) -> None:
        self._catalog = catalog
        self._differences = differences
        self._settings = settings
        self._surfaces: dict[str, _Surface] = {}
        self._users: dict[str, int] = {}
        self._user_count = 0
        self._counted: Counter[str] = Counter()
        self._without_user = 0
        # Hashes of request ids, to count repeated ones.
        self._ids = array("q")
        self._from_ms = self._to_ms = 0

    def add(self, pair: Pair) -> None:
        surface = self._surfaces.get(pair.surface)
        if surface is None:
            if len(self._surfaces) >= _MAX_SURFACES:
                self._counted[f"pairs of surfaces after the first {_MAX_SURFACES}"] += 1
                return
            catalog = self._catalog(pair.surface)
            surface = self._surfaces[pair.surface] = _Surface(
                pair.surface, catalog, self._differences, self._settings
            )
        self._ids.append(hash(pair.request_id))
        if pair.unix_ms > 0:
            self._from_ms = min(self._from_ms or pair.unix_ms, pair.unix_ms)
            self._to_ms = max(self._to_ms, pair.unix_ms)
        for name, answer in (("mesh", pair.mesh), ("model", pair.model)):
            self._counted[f"pairs without an answer of the {name}"] += answer is None
        surface.add(pair, self._user(pair.user_key))

    def comparison(self) -> Comparison:
        names = sorted(self._surfaces)
        surfaces = [self._surfaces[name] for name in names]
        columns = [surface.measured.columns() for surface in surfaces]
        slices = self._slices(names, surfaces, columns)
        repeated = len(self._ids) - len(np.unique(np.array(self._ids, np.int64)))
        self._counted["pairs whose request id came before, compared all the same"] = repeated
        for surface in surfaces:
            self._counted.update(surface.left_out())
        notes = []
        if self._without_user:
            notes.append(
                f"Pairs without a user key: {self._without_user}. Each counts as a user of its own, so that intervals "
                "are too narrow where users sent many requests."
            )
        return Comparison(
            surfaces=tuple(
                surface.comparison(measured, found)
                for surface, measured, found in zip(surfaces, columns, slices, strict=True)
            ),
            counted={name: count for name, count in self._counted.items() if count},
            from_unix_ms=self._from_ms,
            to_unix_ms=self._to_ms,
            notes=tuple(notes),
        )

    def _user(self, user_key: str) -> int:
        if not user_key:
            self._without_user += 1
            self._user_count += 1
            return self._user_count - 1
        user = self._users.get(user_key)
        if user is None:
            user = self._users[user_key] = self._user_count
            self._user_count += 1
        return user

    def _slices(
        self, names: list[str], surfaces: list[_Surface], columns: list[MeasuredColumns]
    ) -> list[list[Slice]]:
        """The slices of each surface. Where there are several surfaces, each is a slice of all pairs, too."""
        sliced = [one.sliced() for one in columns]
        compared = [
            slices_against_rest(pairs, surface.slices.columns(), self._settings.min_users)
            for pairs, surface in zip(sliced, surfaces, strict=True)
        ]
        if len(names) > 1:
            all_pairs = SlicedPairs(
                np.concatenate([pairs.users for pairs in sliced]),
                np.concatenate([pairs.overlap for pairs in sliced]),
                np.concatenate([pairs.excess for pairs in sliced]),
            )
            codes = np.repeat(np.arange(len(names)), [len(pairs.users) for pairs in sliced])
            by_surface = SliceColumn("surface", tuple(names), codes)
            for one in slices_against_rest(all_pairs, [by_surface], self._settings.min_users):
                compared[names.index(one.slice.value)].append(one)
        return worst_first(compared, self._settings)


class _Surface:
    """The data kept of one surface's pairs."""

    def __init__(
        self, surface: str, catalog: Catalog | None, differences: Differences, settings: CompareSettings
    ) -> None:
        self.measured = MeasuredPairs()
        self.slices = SliceColumns()
        self._surface = surface
        self._catalog = catalog
        self._differences = differences
        self._settings = settings
        self._pairs = 0
        self._users: set[int] = set()
        self._sides = SideCounts()
        self._scores = ScoreSample()
        self._exposure = None if catalog is None else ExposureCounts(catalog)
        self._worst = WorstPairs(settings.examples)
        self._attributed = 0
        self._causes: Counter[tuple[str, str]] = Counter()

    def add(self, pair: Pair, user: int) -> None:
        self._pairs += 1
        self._users.add(user)
        measures = measure(pair, self._settings.measures)
        self._sides.add(pair, measures, self._catalog)
        differences = self._differences.get(pair.request_id)
        if differences is not None:
            self._attributed += 1
            self._causes.update((one.missing_from, one.cause.value) for one in differences)
        if measures.difference is None and measures.noise is None:
            return
        self.measured.add(user, measures)
        self.slices.add(slices_of(pair))
        if measures.difference is None or pair.mesh is None or pair.model is None:
            return
        self._scores.add(pair.request_id, user, measures.scores)
        self._worst.add(pair, measures)
        if self._exposure is not None:
            share = user_share_of(pair.user_key, pair.request_id)
            self._exposure.add(user, share, pair.mesh.item_ids, pair.model.item_ids)

    def left_out(self) -> dict[str, int]:
        left_out = {"slices of pairs left out, as a surface has too many names of them": self.slices.left_out}
        if self._exposure is not None:
            reason = "values of fields left out of exposure, as they are too many"
            left_out[reason] = self._exposure.values_left_out
        return left_out

    def comparison(self, columns: MeasuredColumns, slices: list[Slice]) -> SurfaceComparison:
        settings = self._settings
        exposure = self._exposure
        return SurfaceComparison(
            surface=self._surface,
            pairs=self._pairs,
            noise_pairs=columns.noise_pairs(),
            users=len(self._users),
            figures=columns.figures(settings),
            curve=columns.curve(),
            histogram=columns.histogram(),
            rates=self._sides.rates(),
            latencies=self._sides.latencies(),
            exposure=exposure.exposures(settings.min_users, settings.exposure_values) if exposure else (),
            drift=self._scores.drift(settings.resamples, settings.seed),
            slices=tuple(slices),
            attributed_pairs=self._attributed,
            causes=dict(self._causes),
            examples=tuple(
                self._example(pair, measures) for pair, measures in self._worst.found(columns.mean_noise())
            ),
        )

    def _example(self, pair: Pair, measures: Mapping[str, float]) -> Example:
        items = {}
        if self._catalog is not None:
            answers = [answer for answer in (pair.mesh, pair.model) if answer is not None]
            for item_id in dict.fromkeys(item for answer in answers for item in answer.item_ids):
                items[item_id] = self._catalog.text(item_id)
        return Example(pair, measures, self._differences.get(pair.request_id, ()), items)
