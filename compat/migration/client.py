"""A client of meshfold.v1.MigrationService."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from meshfold.compat.client import CallFailed, closed
from meshfold.compat.migration.migration_service import KINDS, decode_modes
from meshfold.compat.migration.modes import Kind, Mode, Modes
from meshfold.protos.meshfold.v1 import migration_pb2 as pb
from meshfold.protos.meshfold.v1 import migration_pb2_grpc

# More than an answer's longest names and reasons take.
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Shown:
    """mesh: its host and port. served: the surfaces that the model serves. trouble: with the file of modes, or ""."""

    mesh: str
    served: tuple[str, ...]
    modes: Modes
    trouble: str = ""


class MigrationClient:
    """A connection to one server in front of a mesh. Its calls raise CallFailed, and InvalidQuery for no such mode."""

    def __init__(self, address: str, timeout_s: float = 10.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, [("grpc.max_receive_message_length", _MOST_BYTES)])
        self._stub: Any = migration_pb2_grpc.MigrationServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._channel.close()

    def show(self, changes: int = 0) -> Shown:
        """changes: how many of the latest changes, from 0 to MOST_HISTORY; 0: 100."""
        return self._call(self._stub.GetModes, pb.GetModesRequest(changes=changes))

    def set(self, surface: str, mode: str, percent: float, who: str, why: str, force: bool = False) -> Shown:
        """surface: "" for the default. mode: of Kind, or "default" for no mode of the surface's own. force: also a
        surface that is not served and has no mode."""
        kind = pb.Mode.DEFAULT if mode == "default" else KINDS[Mode(Kind(mode), percent).kind]
        request = pb.SetModeRequest(
            surface=surface, mode=pb.Mode(kind=kind, percent=percent), who=who, why=why, force=force
        )
        return self._call(self._stub.SetMode, request)

    def kill(self, who: str, why: str) -> Shown:
        return self._call(self._stub.Kill, pb.KillRequest(who=who, why=why))

    def _call(self, method: Callable[..., pb.Modes], request: Any) -> Shown:
        try:
            modes = method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise failed(self._address, "switches no modes", error) from None
        except ValueError:  # grpc's, for a channel that is closed
            raise closed(self._address) from None
        return Shown(modes.mesh, tuple(modes.served), decode_modes(modes), modes.trouble)


def failed(address: str, lacks: str, error: Any) -> CallFailed:
    """What an operator's call to a server in front of a mesh failed with. lacks: said where it has no such service."""
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return CallFailed(
                f"{address} {lacks}: the admin address does (admin_address, by default the port after the callers'), "
                "and only of a server in front of a mesh (`meshfold serve --mesh HOST:PORT`)"
            )
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            return CallFailed(
                f"no answer from {address} ({error.details()}); --address names the server's admin address"
            )
    return CallFailed(str(error.details()))
