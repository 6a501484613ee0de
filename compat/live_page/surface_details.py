"""The details of a surface: a report's parts about its newest pairs. Needs the extra `shadow`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from meshfold.compat.live_page.job import Found, Job
from meshfold.compat.live_page.newest_pairs import NewestPairs
from meshfold.compat.shadow.compare_settings import CompareSettings
from meshfold.compat.shadow.comparison import Comparison, Difference, SurfaceComparison
from meshfold.compat.shadow.comparison_folder import CompareInputs, compare_pairs, read_comparison
from meshfold.compat.shadow.report.texts import clean, count, period
from meshfold.model.errors import InvalidData, MeshfoldError

if TYPE_CHECKING:
    from meshfold.compat.shadow.store_snapshots import StoreSnapshots

# Pairs shown in full; resamples for intervals, few because the page is computed every minute.
_EXAMPLES, _RESAMPLES = 5, 500
_MOST_NOTES, _NOTE_CHARACTERS = 5, 300


def details(job: Job, surface: str) -> Found:
    """Raises InvalidData."""
    place = Path(job.place)
    comparison = read_comparison(place) if place.is_dir() else None
    whose = "This comparison"
    if comparison is None:
        pairs = NewestPairs(place, surface, job.most_pairs)
        if not pairs.places:
            raise InvalidData(f"{job.place} holds no pairs of this surface yet")
        comparison = _compared(job, pairs, surface)
        whose = "All pairs in files" if pairs.is_all else "The newest pairs in files"
    found = next((one for one in comparison.surfaces if one.surface == surface), None)
    if found is None or not found.pairs:
        raise InvalidData(f"{job.place} holds no pairs of this surface yet")
    when = period(comparison.from_unix_ms, comparison.to_unix_ms)
    told = [f"{whose}: {count(found.pairs, 'pair')}{f', {when}' if when else ''}.", *_notes(comparison)]
    return Found(caption=" ".join(told), html=html_of(found))


def _compared(job: Job, pairs: NewestPairs, surface: str) -> Comparison:
    given = CompareInputs((job.place,), CompareSettings(examples=_EXAMPLES, resamples=_RESAMPLES))
    if not job.store:
        return compare_pairs(pairs(), given, pairs.skipped)
    # Imported late: it imports torch.
    from meshfold.compat.shadow.store_snapshots import StoreSnapshots

    try:
        snapshots = StoreSnapshots(Path(job.store))
        is_whole = sum(bool(pair.request) and not pair.is_redacted for pair in snapshots.versions_of(pairs()))
        snapshots.catalog(surface)
        differences = _differences(job, snapshots, pairs) if is_whole else {}
        given = given.beside(snapshots.catalog, differences, snapshots.notes, {})
    except MeshfoldError as error:
        # An unreadable store costs titles, exposure and causes; the other figures remain.
        given = given.beside(given.catalog, {}, [f"{error}."], {})
    return compare_pairs(pairs(), given, pairs.skipped)


def _differences(
    job: Job, snapshots: StoreSnapshots, pairs: NewestPairs
) -> Mapping[str, tuple[Difference, ...]]:
    from meshfold.compat.shadow.attribution.mesh_facts import MeshFacts

    return snapshots.differences(pairs, job.attribute, MeshFacts())


def _notes(comparison: Comparison) -> Sequence[str]:
    return [clean(note, _NOTE_CHARACTERS) for note in comparison.notes[:_MOST_NOTES]]


def html_of(surface: SurfaceComparison) -> str:
    from meshfold.compat.shadow.report.page import environment, surface_view

    # User keys are left out. Newest first.
    examples = [replace(one, pair=replace(one.pair, user_key="")) for one in surface.examples[:_EXAMPLES]]
    examples.sort(key=lambda one: -one.pair.unix_ms)
    view = surface_view(replace(surface, examples=tuple(examples)), 0, _EXAMPLES)
    parts = environment().get_template("parts.html").module
    html: str = parts.surface_parts(view)  # type: ignore[attr-defined]
    return str(html)
