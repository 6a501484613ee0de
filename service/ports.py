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

# The operators' address that stands for none.
NO_ADDRESS = "none"
_LOOPBACK = "127.0.0.1"
# Most open streams of a connection; the client delays further ones.
_STREAMS_PER_CONNECTION = 4096
# Seconds between keepalive pings of a connection, and seconds that a replaced connection has to end its calls.
_KEEPALIVE_S, _AGE_GRACE_S = 30, 60
# Shortest allowed interval of callers' pings, in seconds. gRPC's default of five minutes would disconnect callers whose
# mesh allowed shorter ones.
_PING_S = 5
# Bytes of metadata from which gRPC refuses some calls at random; from twice as many it refuses all. Its default.
_METADATA_BYTES = 8 << 10


@dataclass(frozen=True)
class PortLimits:
    """Limits of a port.

    message_bytes: most bytes of a request. metadata_bytes: most bytes of a call's metadata, as HTTP/2 counts them.
    age_s: seconds after which a connection is replaced, so that no caller keeps answers unread for ever; gRPC's clients
    replace it without a failed call.
    """

    message_bytes: int
    metadata_bytes: int = _METADATA_BYTES
    age_s: float = 1800.0


def listening(
    address: str, setting: str, handlers: Sequence[grpc.GenericRpcHandler], limits: PortLimits
) -> tuple[grpc.aio.Server, str]:
    """Binds an address; returns (server to start, address with the bound port). Runs on the loop.

    setting: the flag that names the address. Raises InvalidConfig where it cannot be bound.
    """
    server = grpc.aio.server(
        handlers=list(handlers),
        # Without SO_REUSEPORT, so that a second server on the port fails in place of taking half of the calls.
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
            ("grpc.max_allowed_incoming_connections", _most_connections()),
            # Beyond the first limit gRPC refuses some calls at random, beyond the second all.
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
    """The operators' address: the setting, or loopback at the port after the callers'.

    address: the callers' bound address. wanted_port: the callers' port in the settings; 0 takes a free port for both.
    """
    if given:
        return given
    if address.startswith("unix:"):
        return f"{address}.admin"
    port = int(address.rpartition(":")[2]) + 1 if wanted_port else 0
    return f"{_LOOPBACK}:{port if port < 1 << 16 else 0}"


def _most_connections() -> int:
    """Most connections: half of the process's limit of open files."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(64, min(most, 1 << 17) // 2)


async def stop(servers: Sequence[Any], grace_s: float) -> None:
    await asyncio.gather(*(server.stop(grace_s) for server in servers))
