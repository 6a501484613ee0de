"""A client of meshfold.v1.MigrationService."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from meshfold.compat.client import CallFailed
from meshfold.compat.migration.migration_service import KINDS, decode_modes
from meshfold.compat.migration.modes import Kind, Mode, Modes
from meshfold.protos.meshfold.v1 import migration_pb2 as pb
from meshfold.protos.meshfold.v1 import migration_pb2_grpc


@dataclass(frozen=True)
class Shown:
    """mesh: its host and port. served: the surfaces that the model serves."""

    mesh: str
    served: tuple[str, ...]
    modes: Modes


class MigrationClient:
    """A connection to one server in front of a mesh. Its calls raise CallFailed, and InvalidQuery for no such mode."""

    def __init__(self, address: str, timeout_s: float = 10.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address)
        self._stub: Any = migration_pb2_grpc.MigrationServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._channel.close()

    def show(self) -> Shown:
        return self._call(self._stub.GetModes, pb.GetModesRequest())

    def set(self, surface: str, mode: str, percent: float, who: str, why: str) -> Shown:
        """surface: "" for the default. mode: of Kind, or "default" for no mode of the surface's own."""
        kind = pb.Mode.DEFAULT if mode == "default" else KINDS[Mode(Kind(mode), percent).kind]
        request = pb.SetModeRequest(
            surface=surface, mode=pb.Mode(kind=kind, percent=percent), who=who, why=why
        )
        return self._call(self._stub.SetMode, request)

    def kill(self, who: str, why: str) -> Shown:
        return self._call(self._stub.Kill, pb.KillRequest(who=who, why=why))

    def _call(self, method: Callable[..., pb.Modes], request: Any) -> Shown:
        try:
            modes = method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise failed(self._address, error) from None
        return Shown(modes.mesh, tuple(modes.served), decode_modes(modes))


def failed(address: str, error: Any) -> CallFailed:
    """What a call of an operator to a server in front of a mesh failed with."""
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return CallFailed(f"{address} stands in front of no mesh; `meshfold serve --mesh HOST:PORT` does")
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            return CallFailed(f"no answer from {address} ({error.details()}); --address names the server")
    return CallFailed(str(error.details()))
