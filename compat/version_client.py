"""A client of meshfold.v1.VersionService."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc

from meshfold.compat.client import CallFailed, closed
from meshfold.protos.meshfold.v1 import versions_pb2 as pb
from meshfold.protos.meshfold.v1 import versions_pb2_grpc

Answer = TypeVar("Answer")

# Most bytes of an answer, above the usual size of the most denied items and changes.
_MOST_BYTES = 256 << 20


class VersionClient:
    """A client of a server's operators' address. Its calls raise CallFailed."""

    def __init__(self, address: str, timeout_s: float = 600.0) -> None:
        """timeout_s: of a call; verifying a version of tens of millions of items takes minutes."""
        self._address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, [("grpc.max_receive_message_length", _MOST_BYTES)])
        self._stub: Any = versions_pb2_grpc.VersionServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._channel.close()

    def show(self, surface: str = "", changes: int = 0) -> pb.Versions:
        """Lists versions. surface: "" for all. changes: number of latest changes to return, up to 1,000."""
        request = pb.ListVersionsRequest(surface=surface, changes=changes)
        return self._called(self._stub.ListVersions, pb.Versions, request)

    def load(self, surface: str, version: str) -> pb.Versions:
        request = pb.LoadVersionRequest(surface=surface, version=version)
        return self._called(self._stub.LoadVersion, pb.Versions, request)

    def unload(self, surface: str) -> pb.Versions:
        return self._called(self._stub.UnloadVersion, pb.Versions, pb.UnloadVersionRequest(surface=surface))

    def activate(self, surface: str, version: str, who: str, why: str) -> pb.Versions:
        request = pb.ActivateVersionRequest(surface=surface, version=version, who=who, why=why)
        return self._called(self._stub.ActivateVersion, pb.Versions, request)

    def roll_back(self, surface: str, version: str, who: str, why: str) -> pb.Versions:
        """Activates an older version. version: "" for the newest one before the active one."""
        request = pb.RollBackRequest(surface=surface, version=version, who=who, why=why)
        return self._called(self._stub.RollBack, pb.Versions, request)

    def follow(self, surface: str, who: str, why: str) -> pb.Versions:
        request = pb.FollowNewestRequest(surface=surface, who=who, why=why)
        return self._called(self._stub.FollowNewest, pb.Versions, request)

    def delete(
        self, surface: str, versions: Sequence[str], keep: int, days: float, who: str, why: str, dry_run: bool
    ) -> pb.DeletedVersions:
        request = pb.DeleteVersionsRequest(
            surface=surface, versions=versions, keep=keep, days=days, who=who, why=why, dry_run=dry_run
        )
        return self._called(self._stub.DeleteVersions, pb.DeletedVersions, request)

    def denied(self, changes: int = 0) -> pb.Denied:
        return self._called(self._stub.ListDenied, pb.Denied, pb.ListDeniedRequest(changes=changes))

    def deny(
        self, surface: str, item_ids: Sequence[str], who: str, why: str, force: bool = False
    ) -> pb.Denied:
        """Denies items. surface: "" for every one. force: whether to accept a surface without a version in the
        store."""
        request = pb.DenyRequest(surface=surface, item_ids=item_ids, who=who, why=why, force=force)
        return self._called(self._stub.Deny, pb.Denied, request)

    def undeny(self, surface: str, item_ids: Sequence[str], who: str, why: str) -> pb.Denied:
        request = pb.DenyRequest(surface=surface, item_ids=item_ids, who=who, why=why)
        return self._called(self._stub.Undeny, pb.Denied, request)

    def _called(self, method: Callable[..., Any], _: type[Answer], request: Any) -> Answer:
        try:
            answer: Answer = method(request, timeout=self._timeout_s)
            return answer
        except grpc.RpcError as error:
            raise _failed(self._address, error) from None
        except ValueError:  # grpc's, for a channel that is closed
            raise closed(self._address) from None


def _failed(address: str, error: Any) -> CallFailed:
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return CallFailed(
                f"{address} manages no versions; the admin address of `meshfold serve` does (admin_address, by default"
                " the port after the callers')"
            )
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            return CallFailed(
                f"no answer from {address} ({error.details()}); --address names the server's admin address"
            )
    return CallFailed(str(error.details()))
