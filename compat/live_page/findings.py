"""Results of a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from meshfold.compat.live_page.figures import figures
from meshfold.compat.live_page.job import Found, Job
from meshfold.compat.live_page.newest_pairs import NewestPairs
from meshfold.compat.live_page.surface_details import details
from meshfold.compat.shadow.comparison import Catalog
from meshfold.model.errors import MeshfoldError


def find(job: Job) -> Found:
    """Runs a job. Without a result, the caption gives the reason."""
    try:
        return figures(job, _catalog(job)) if job.surface is None else details(job, job.surface)
    except MeshfoldError as error:
        return Found(f"{error}.")
    except Exception as error:  # the page goes on without it
        return Found(f"This could not be computed: {type(error).__qualname__}: {error}")


def _catalog(job: Job) -> Callable[[str], Catalog | None]:
    """Catalogs of the store's snapshots; none if the store is unreadable, so that figures without them remain."""
    if not job.store:
        return lambda surface: None
    # Imported late: it imports torch.
    from meshfold.compat.shadow.store_snapshots import StoreSnapshots

    try:
        snapshots = StoreSnapshots(Path(job.store))
    except MeshfoldError:
        return lambda surface: None
    for _ in snapshots.versions_of(NewestPairs(Path(job.place), None, job.most_pairs)()):
        pass

    def catalog(surface: str) -> Catalog | None:
        try:
            return snapshots.catalog(surface)
        except MeshfoldError:
            return None

    return catalog
