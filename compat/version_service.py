"""meshfold.v1.VersionService: versions and denied items over the wire."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from meshfold.compat.migration.migration_service import decoded
from meshfold.model.errors import InvalidQuery, UnknownName
from meshfold.model.schema import nearest
from meshfold.protos.meshfold.v1 import versions_pb2 as pb
from meshfold.service.denied import Denied, Takedown
from meshfold.service.intake import Operation

if TYPE_CHECKING:
    # Imported for types only, since they import torch.
    from meshfold.service.version_operations import ShownVersion, SurfaceVersions, VersionOperations
    from meshfold.service.version_pins import VersionChange

SERVICE = "meshfold.v1.VersionService"
# Most changes in one answer.
MOST_HISTORY = 1000


class Holder(Protocol):
    """The runner of a served snapshot."""

    def holds(self, item_ids: Sequence[str]) -> list[bool]: ...


class Served(Protocol):
    """A server."""

    @property
    def runners(self) -> Mapping[str, Holder]:
        """The active runners by surface."""

    @property
    def has_front(self) -> bool:
        """Whether the server is in front of a mesh."""


class VersionService:
    """Answers the service's calls, from bytes to bytes."""

    def __init__(self, operations: VersionOperations, denied: Denied, served: Served) -> None:
        self._operations, self._denied, self._served = operations, denied, served

    @property
    def answers(self) -> dict[str, Operation]:
        """Operators' calls by full name."""
        calls: dict[str, Callable[[bytes], bytes]] = {
            "ListVersions": self._list,
            "LoadVersion": self._load,
            "UnloadVersion": self._unload,
            "ActivateVersion": self._activate,
            "RollBack": self._roll_back,
            "FollowNewest": self._follow,
            "DeleteVersions": self._delete,
            "ListDenied": self._list_denied,
            "Deny": self._deny,
            "Undeny": self._undeny,
        }
        return {f"/{SERVICE}/{name}": _operation(call) for name, call in calls.items()}

    def _list(self, message: bytes) -> bytes:
        request = decoded(pb.ListVersionsRequest, message)
        changes = _changes(request.changes)
        history = self._operations.pins.history(changes) if changes else ()
        return self._encoded(request.surface, history)

    def _load(self, message: bytes) -> bytes:
        request = decoded(pb.LoadVersionRequest, message)
        self._operations.load(request.surface, request.version)
        return self._encoded(request.surface)

    def _unload(self, message: bytes) -> bytes:
        request = decoded(pb.UnloadVersionRequest, message)
        self._operations.unload(request.surface)
        return self._encoded(request.surface)

    def _activate(self, message: bytes) -> bytes:
        request = decoded(pb.ActivateVersionRequest, message)
        self._operations.activate(request.surface, request.version, request.who, request.why)
        return self._encoded(request.surface)

    def _roll_back(self, message: bytes) -> bytes:
        request = decoded(pb.RollBackRequest, message)
        self._operations.roll_back(request.surface, request.version, request.who, request.why)
        return self._encoded(request.surface)

    def _follow(self, message: bytes) -> bytes:
        request = decoded(pb.FollowNewestRequest, message)
        self._operations.follow(request.surface, request.who, request.why)
        return self._encoded(request.surface)

    def _delete(self, message: bytes) -> bytes:
        request = decoded(pb.DeleteVersionsRequest, message)
        if request.versions and request.keep:
            raise InvalidQuery("keep", "goes with no versions: name versions, or how many are kept")
        deleted = self._operations.delete(
            request.surface,
            list(request.versions),
            request.keep,
            request.days,
            request.who,
            request.why,
            request.dry_run,
        )
        answer = pb.DeletedVersions(
            versions=[
                pb.DeletedVersions.Version(surface=d.surface, folder=d.folder, disk_bytes=d.disk_bytes)
                for d in deleted
            ]
        )
        return bytes(answer.SerializeToString())

    def _list_denied(self, message: bytes) -> bytes:
        request = decoded(pb.ListDeniedRequest, message)
        changes = _changes(request.changes)
        history = self._denied.history(changes) if changes else ()
        return self._encoded_denied(self._denied.current.takedowns, history)

    def _deny(self, message: bytes) -> bytes:
        request = decoded(pb.DenyRequest, message)
        if request.surface and not request.force:
            self._check_known(request.surface)
        self._denied.deny(request.surface, list(request.item_ids), request.who, request.why)
        return self._encoded_denied(self._of_call(request))

    def _undeny(self, message: bytes) -> bytes:
        request = decoded(pb.DenyRequest, message)
        self._denied.undo(request.surface, list(request.item_ids), request.who, request.why)
        return self._encoded_denied(self._of_call(request))

    def _of_call(self, request: pb.DenyRequest) -> list[Takedown]:
        return [Takedown(request.surface, tuple(request.item_ids), request.who, request.why)]

    def _check_known(self, surface: str) -> None:
        """Refuses an unknown surface: a typing error must not look like a takedown."""
        known = {*self._served.runners, *(shown.surface for shown in self._operations.shown())}
        if surface not in known:
            raise UnknownName(
                f"no version of surface {surface!r} is in the store; `force` (--force) denies there all the same"
                f"{nearest(surface, known)}"
            )

    def _encoded(self, surface: str, history: Iterable[VersionChange] = ()) -> bytes:
        answer = pb.Versions(
            surfaces=[_surface(shown) for shown in self._operations.shown(surface)],
            history=[_change(change) for change in history],
            trouble=self._operations.pins.trouble,
        )
        return bytes(answer.SerializeToString())

    def _encoded_denied(
        self, takedowns: Iterable[Takedown], history: Iterable[Mapping[str, Any]] = ()
    ) -> bytes:
        runners = dict(self._served.runners)
        answer = pb.Denied(
            items=[item for takedown in takedowns for item in _items(takedown, runners)],
            total=len(self._denied.current),
            history=[_denied_change(change) for change in history],
            trouble=self._denied.trouble,
            passes_mesh_answers=self._served.has_front,
        )
        return bytes(answer.SerializeToString())


def operate(operations: VersionOperations, denied: Denied, served: Served) -> Mapping[str, Operation]:
    """The operators' calls of a server."""
    return VersionService(operations, denied, served).answers


def _operation(call: Callable[[bytes], bytes]) -> Operation:
    def answer(message: bytes, _: Any) -> bytes:
        return call(message)

    return answer


def _changes(count: int) -> int:
    if not 0 <= count <= MOST_HISTORY:
        raise InvalidQuery("changes", f"must be 0 to {MOST_HISTORY}, got {count}")
    return count


def _surface(shown: SurfaceVersions) -> pb.SurfaceVersions:
    return pb.SurfaceVersions(
        surface=shown.surface,
        versions=[_version(version) for version in shown.versions],
        pin=None if shown.pin is None else _change(shown.pin),
    )


def _version(shown: ShownVersion) -> pb.Version:
    size = shown.size
    return pb.Version(
        folder=shown.folder,
        version=shown.version,
        published_unix_ms=shown.published_unix_ms,
        items=0 if size is None else size.items,
        disk_bytes=0 if size is None else size.disk_bytes,
        memory_bytes=0 if size is None else size.memory_bytes,
        active=shown.is_active,
        previous=shown.is_previous,
        pinned=shown.is_pinned,
        loaded=shown.is_held,
        trouble=shown.trouble,
    )


def _change(change: VersionChange) -> pb.VersionChange:
    return pb.VersionChange(
        surface=change.surface,
        folder=change.folder,
        action=change.action,
        who=change.who,
        why=change.why,
        unix_ms=change.unix_ms,
    )


def _items(takedown: Takedown, runners: Mapping[str, Holder]) -> list[pb.DeniedItem]:
    surfaces: Collection[str] = [takedown.surface] if takedown.surface else sorted(runners)
    held = {name: runners[name].holds(takedown.item_ids) for name in surfaces if name in runners}
    return [
        pb.DeniedItem(
            surface=takedown.surface,
            item_id=item_id,
            who=takedown.who,
            why=takedown.why,
            unix_ms=takedown.unix_ms,
            held_by=[name for name, holds in held.items() if holds[place]],
        )
        for place, item_id in enumerate(takedown.item_ids)
    ]


def _denied_change(change: Mapping[str, Any]) -> pb.DeniedChange:
    return pb.DeniedChange(
        action=str(change.get("action", "")),
        surface=str(change.get("surface", "")),
        item_ids=[str(item_id) for item_id in change.get("item_ids", ())],
        who=str(change.get("who", "")),
        why=str(change.get("why", "")),
        unix_ms=int(change.get("unix_ms", 0)),
    )
