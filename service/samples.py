"""The metrics of a server of snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshfold.service.front import Sample

if TYPE_CHECKING:
    from meshfold.service.denied import Denied
    from meshfold.service.intake import Intake
    from meshfold.service.scheduler import Scheduler
    from meshfold.service.version_operations import VersionOperations
    from meshfold.service.versions import Versions


def server_samples(versions: Versions, scheduler: Scheduler, intake: Intake) -> Iterator[Sample]:
    """Metrics of snapshots, queues and calls. intake: that of callers."""
    for name, lane in {"callers": scheduler.callers, "background": scheduler.background}.items():
        labels = {"lane": name}
        yield Sample("meshfold_queue", "Requests that wait for a worker.", lane.waiting(), labels)
        yield Sample(
            "meshfold_refused", "Requests refused on arrival, by lane.", lane.refused, labels, counts=True
        )
        yield Sample("meshfold_shed", "Requests refused in the queue.", lane.shed, labels, counts=True)
    for code, count in intake.refusals.counts.copy().items():
        meaning = "Calls of callers that this server refused, by status."
        yield Sample("meshfold_calls_refused", meaning, count, {"code": code}, counts=True)
    yield Sample("meshfold_unread_bytes", "Bytes of answers not read by callers.", intake.unread_bytes())
    meaning = "1 while the store can be read."
    yield Sample("meshfold_store_readable", meaning, float(versions.store_readable))
    meaning = "Snapshots newer than the active ones that could not be loaded."
    yield Sample("meshfold_snapshots_failing", meaning, versions.failing)
    yield Sample("meshfold_swaps", "Snapshots activated so far.", versions.swaps, counts=True)
    for surface, runner in versions.runners.items():
        labels = {"surface": surface, "version": runner.version[:12]}
        yield Sample("meshfold_served", "1 for the active version of each surface.", 1, labels)


def version_samples(operations: VersionOperations, denied: Denied) -> Iterator[Sample]:
    """Metrics of pins, denied items and deleted versions."""
    pins = operations.pins
    for surface in pins.current.surfaces:
        meaning = "1 for each surface that is pinned to a version."
        yield Sample("meshfold_pinned", meaning, 1, {"surface": surface})
    meaning = "1 while changes of pinned versions by other servers come into effect here."
    yield Sample("meshfold_pins_readable", meaning, float(not pins.trouble))
    yield Sample("meshfold_denied_items", "Items that no answer of the model has.", len(denied.current))
    meaning = "1 while changes of denied items by other servers come into effect here."
    yield Sample("meshfold_denied_readable", meaning, float(not denied.trouble))
    meaning = "Versions that were deleted."
    yield Sample("meshfold_versions_deleted", meaning, operations.deleted, counts=True)
