"""The gRPC servers of a process: one for callers, one for operators, on one event loop."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from meshfold.model.errors import InvalidConfig

# In place of operators' address: there is none.
NO_ADDRESS = "none"
_LOOPBACK = "127.0.0.1"
# Streams of one connection at a time, idle or not; the client waits with further ones.
_STREAMS_PER_CONNECTION = 4096
# One whose other end is gone is closed, and so is one that is replaced but not left.
_KEEPALIVE_S, _AGE_GRACE_S = 30, 60
# Callers may ping so often, idle ones too. By default gRPC ends a connection for pings less than five minutes apart,
# which callers of a mesh that allows them did not have to know.
_PING_S = 5
# gRPC's own default, which most clients have too: from 8 KiB on some headers are refused by chance, from 16 KiB all.
_METADATA_BYTES = 8 << 10


@dataclass(frozen=True)
class PortLimits:
    """message_bytes: of a request. metadata_bytes: of a call's, as HTTP/2 counts them. age_s: a connection is replaced
    after it, which gRPC's clients do without a failed call: nobody holds answers unread for ever."""

    message_bytes: int
    metadata_bytes: int = _METADATA_BYTES
    age_s: float = 1800.0


def listening(
    address: str, setting: str, handlers: Sequence[grpc.GenericRpcHandler], limits: PortLimits
) -> tuple[grpc.aio.Server, str]:
    """(a server that answers once it is started, its address with the port that was bound). On the loop.

    setting: the flag that names the address. Raises InvalidConfig where it cannot be listened on.
    """
    server = grpc.aio.server(
        handlers=list(handlers),
        # Without SO_REUSEPORT a second server on the port is an error, not half of the calls.
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
            ("grpc.max_allowed_incoming_connections", _most_connections()),
            # The first is refused by chance beyond, the second always.
            ("grpc.max_metadata_size", limits.metadata_bytes),
            ("grpc.absolute_max_metadata_size", limits.metadata_bytes),
            ("grpc.max_connection_age_ms", round(limits.age_s * 1000)),
            ("grpc.max_connection_age_grace_ms", _AGE_GRACE_S * 1000),
            ("grpc.http2.min_ping_interval_without_data_ms", round(_PING_S * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", _KEEPALIVE_S * 1000),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_S * 1000),
        ],
    )
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if port == 0:
        raise InvalidConfig(
            f"cannot listen on {address}: the port is in use, or the host is not of this machine; "
            f"stop the other server or choose another with {setting}"
        )
    return server, address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


def operators_address(given: str, address: str, wanted_port: int) -> str:
    """Where operators are answered: the setting, else on loopback at the port after the callers'.

    address: the callers', as it was bound. wanted_port: as it was asked for; 0 for any, which then is any here too.
    """
    if given:
        return given
    if address.startswith("unix:"):
        return f"{address}.admin"
    port = int(address.rpartition(":")[2]) + 1 if wanted_port else 0
    return f"{_LOOPBACK}:{port if port < 1 << 16 else 0}"


def _most_connections() -> int:
    """Half of the file handles that the process may have."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(64, min(most, 1 << 17) // 2)


async def stop(servers: Sequence[Any], grace_s: float) -> None:
    await asyncio.gather(*(server.stop(grace_s) for server in servers))
