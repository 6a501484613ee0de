"""A client of meshfold.v1.MigrationService."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from meshfold.compat.client import CallFailed, closed
from meshfold.compat.migration.migration_service import KINDS, decode_modes
from meshfold.compat.migration.modes import Kind, Mode, Modes
from meshfold.protos.meshfold.v1 import migration_pb2 as pb
from meshfold.protos.meshfold.v1 import migration_pb2_grpc

# Most bytes of an answer, above those with the longest names and reasons.
_MOST_BYTES = 64 << 20


# Milliseconds between attempts to connect.
_BACKOFF_MS = 1000
# Advice of operators' commands for a server that does not answer.
ADDRESS_REMEDY = "--address names the server's admin address"


@dataclass(frozen=True)
class Compared:
    """A server's settings of the comparison, with the names of service/comparison.py. has_key: whether users have the
    same hash on all servers and after restarts."""

    on: bool
    share: float
    surface_shares: Mapping[str, float]
    canary_share: float
    noise_share: float
    folder: str
    file_age_s: float
    keep_requests: bool
    has_key: bool
    omit: tuple[str, ...]

    def share_of(self, surface: str) -> float:
        """The share of the surface's shadowed calls that is compared."""
        return self.surface_shares.get(surface, self.share)


@dataclass(frozen=True)
class Shown:
    """The state of a server. mesh: its addresses, HOST:PORT with commas between. served: the surfaces that the
    model serves. trouble: what is wrong with the place of the modes; "" for nothing. compared: None from an older
    server, which does not report it."""

    mesh: str
    served: tuple[str, ...]
    modes: Modes
    trouble: str = ""
    compared: Compared | None = None


class MigrationClient:
    """A client of one server in front of a mesh. Its calls raise CallFailed, and InvalidQuery for an unknown mode."""

    def __init__(self, address: str, timeout_s: float = 10.0, remedy: str = ADDRESS_REMEDY) -> None:
        """remedy: what errors say of a server that does not answer."""
        self._address = address
        self._timeout_s = timeout_s
        self._remedy = remedy
        options = (
            ("grpc.max_receive_message_length", _MOST_BYTES),
            ("grpc.max_reconnect_backoff_ms", _BACKOFF_MS),
        )
        self._channel = grpc.insecure_channel(address, options)
        self._stub: Any = migration_pb2_grpc.MigrationServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._channel.close()

    def show(self, changes: int = 0) -> Shown:
        """The state of the server. changes: number of latest changes to return, up to MOST_HISTORY; 0 for 100."""
        return self._call(self._stub.GetModes, pb.GetModesRequest(changes=changes))

    def set(
        self,
        surface: str,
        mode: str,
        percent: float,
        who: str,
        why: str,
        force: bool = False,
        generation: int | None = None,
    ) -> Shown:
        """Sets a mode. surface: "" for the default. mode: one of Kind's, or "default" to remove the surface's own mode.
        force: whether to accept a surface that is not served and has no mode. generation: of the modes to be changed;
        raises CallFailed where they have changed meanwhile; None for any."""
        kind = pb.Mode.DEFAULT if mode == "default" else KINDS[Mode(Kind(mode), percent).kind]
        request = pb.SetModeRequest(
            surface=surface, mode=pb.Mode(kind=kind, percent=percent), who=who, why=why, force=force
        )
        if generation is not None:
            request.generation = generation
        return self._call(self._stub.SetMode, request)

    def kill(self, who: str, why: str) -> Shown:
        return self._call(self._stub.Kill, pb.KillRequest(who=who, why=why))

    def _call(self, method: Callable[..., pb.Modes], request: Any) -> Shown:
        try:
            modes = method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise failed(self._address, "switches no modes", error, self._remedy) from None
        except ValueError:  # gRPC raises it for a closed channel
            raise closed(self._address) from None
        compared = _compared(modes.comparison) if modes.HasField("comparison") else None
        return Shown(modes.mesh, tuple(modes.served), decode_modes(modes), modes.trouble, compared)


def _compared(told: pb.Comparison) -> Compared:
    return Compared(
        on=told.on,
        share=told.share,
        surface_shares=dict(told.surface_shares),
        canary_share=told.canary_share,
        noise_share=told.noise_share,
        folder=told.folder,
        file_age_s=told.file_age_s,
        keep_requests=told.keep_requests,
        has_key=told.has_key,
        omit=tuple(told.omit),
    )


def failed(address: str, lacks: str, error: Any, remedy: str = ADDRESS_REMEDY) -> CallFailed:
    """The error of a failed operator's call. lacks: the message for a server without the service. remedy: for a server
    that does not answer."""
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return CallFailed(
                f"{address} {lacks}: the admin address does (admin_address, by default the port after the callers'), "
                "and only of a server in front of a mesh (`meshfold serve --mesh HOST:PORT`)"
            )
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            return CallFailed(f"no answer from {address} ({error.details()}); {remedy}")
    return CallFailed(str(error.details()))
