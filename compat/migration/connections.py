"""The connections to a mesh's addresses: calls go round those that stand, and changes are logged."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

_log = logging.getLogger(__name__)

# A mesh that comes back is met within a second; by default gRPC waits up to two minutes between attempts, and half a
# minute between looks at DNS.
_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.dns_min_time_between_resolutions_ms", 5000),
)
# A name may stand for several addresses.
_ROUND_ROBIN = (
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.service_config_disable_resolution", 1),
)
# What the mesh sends is bounded by what callers may leave unread.
_UNBOUNDED = (1 << 31) - 1
_SIZES = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", _UNBOUNDED),
    ("grpc.absolute_max_metadata_size", _UNBOUNDED),
)
_IDLE = grpc.ChannelConnectivity.IDLE
_READY = grpc.ChannelConnectivity.READY
_FAILED = grpc.ChannelConnectivity.TRANSIENT_FAILURE
# The longest that a look at a connection's state takes.
_LOOK_S = 0.2


@dataclass(frozen=True)
class ConnectionSettings:
    """addresses: host:port, [ipv6]:port, unix:path or dns:///name:port. keepalive_s: without a byte of the mesh, while
    calls wait, after which it gets an HTTP/2 ping. keepalive_timeout_s: for the answer to that."""

    addresses: tuple[str, ...]
    compression: grpc.Compression
    keepalive_s: float
    keepalive_timeout_s: float


class _Connection:
    """A channel to one address. lost_s: since when it does not stand; None while it does. lost: how often."""

    def __init__(self, address: str, settings: ConnectionSettings) -> None:
        self.address = address
        self.state = _IDLE
        self.lost_s: float | None = time.monotonic()
        self.was_up = False
        self.lost = 0
        options = [
            *_SIZES,
            *_RECONNECT,
            *_ROUND_ROBIN,
            # Only while calls wait: servers punish signs of life that are asked for without any (gRFC A8).
            ("grpc.keepalive_permit_without_calls", 0),
            ("grpc.keepalive_time_ms", round(settings.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", round(settings.keepalive_timeout_s * 1000)),
            # Of pings that measure the bandwidth too: no other is sent before they are answered.
            ("grpc.http2.ping_timeout_ms", round(settings.keepalive_timeout_s * 1000)),
        ]
        self.channel: Any = grpc.aio.insecure_channel(_target(address), options, settings.compression)
        self._unary: dict[str, Any] = {}

    def unary(self, method: str) -> Any:
        """The call of one message each way. method: of a short list."""
        if method not in self._unary:
            self._unary[method] = self.channel.unary_unary(method)
        return self._unary[method]


class Connections:
    """A channel an address. Its methods are the loop's."""

    def __init__(self, settings: ConnectionSettings, purpose: str) -> None:
        """purpose: of the calls, for the log."""
        self._settings = settings
        self._purpose = purpose
        self._connections: list[_Connection] = []
        self._watches: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._turn = 0
        self._is_closed = False

    @property
    def is_several(self) -> bool:
        """Whether a call that met no mesh may find one at another address."""
        addresses = self._settings.addresses
        return len(addresses) > 1 or addresses[0].startswith("dns:")

    def open(self) -> None:
        """Connects, and again whenever an address was gone."""
        self._connections = [_Connection(address, self._settings) for address in self._settings.addresses]
        self._watches = [asyncio.create_task(self._watch(connection)) for connection in self._connections]

    @property
    def is_open(self) -> bool:
        return bool(self._connections)

    async def pick(self, deadline_s: float | None) -> _Connection:
        """The next one that stands; where none does, one that fails its call as fast as it can.

        deadline_s: on time.monotonic()'s clock, until when addresses that have not said anything yet are waited for.
        """
        while len(self._connections) > 1:
            if ready := [c for c in self._connections if c.state is _READY]:
                return self._next(ready)
            if all(c.state is _FAILED for c in self._connections):
                break
            changed = self._changed
            left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            try:
                async with asyncio.timeout(left_s):
                    await changed.wait()
            except TimeoutError:
                break
        return self._next(self._connections)

    def _next(self, among: Sequence[_Connection]) -> _Connection:
        self._turn += 1
        return among[self._turn % len(among)]

    def shown(self) -> list[tuple[str, bool, int]]:
        """(address, whether it stands, how often it was lost) of each."""
        return [(c.address, c.state is _READY, c.lost) for c in self._connections]

    async def close(self) -> None:
        """Cancels what is in flight."""
        self._is_closed = True
        for connection in self._connections:
            await connection.channel.close()
        await asyncio.gather(*self._watches, return_exceptions=True)

    async def _watch(self, connection: _Connection) -> None:
        channel = connection.channel
        with suppress(grpc.aio.UsageError):
            has_changed = False
            while not self._is_closed:
                state = channel.get_state(try_to_connect=True)
                if has_changed and state is connection.state is _READY:
                    # Lost and back already.
                    self._note(connection, _IDLE)
                if state is not connection.state:
                    self._note(connection, state)
                # Not wait_for_state_change, which has no end: a channel's end shows when its last call is collected.
                has_changed = await channel._channel.watch_connectivity_state(
                    state.value[0], time.time() + _LOOK_S
                )

    def _note(self, connection: _Connection, state: grpc.ChannelConnectivity) -> None:
        before, connection.state = connection.state, state
        now_s = time.monotonic()
        where = f"address={connection.address} calls={self._purpose}"
        if state is _READY and connection.lost_s is not None:
            word = "back" if connection.was_up else "made"
            _log.info("mesh connection %s: %s after_s=%.1f", word, where, now_s - connection.lost_s)
            connection.lost_s, connection.was_up = None, True
        elif before is _READY and state is not _READY:
            connection.lost += 1
            connection.lost_s = now_s
            _log.warning("mesh connection lost: %s", where)
        elif state is _FAILED and before is not _FAILED and connection.lost_s is not None:
            _log.warning(
                "mesh connection failed: %s down_s=%.1f; it is tried again", where, now_s - connection.lost_s
            )
        self._changed.set()
        self._changed = asyncio.Event()


def _target(address: str) -> str:
    """In gRPC's words (its page on name resolution)."""
    if address.startswith(("dns:///", "unix:")):
        return address
    host, _, port = address.rpartition(":")
    try:
        version = ipaddress.ip_address(host.strip("[]")).version
    except ValueError:
        return f"dns:///{address}"
    return f"ipv{version}:{host}:{port}"
