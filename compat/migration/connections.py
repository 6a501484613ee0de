"""Connections to a mesh's addresses: calls use the connected ones in turn; changes of state are logged."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from meshfold.compat.metadata_size import ANY_METADATA

_log = logging.getLogger(__name__)

# Reconnects within a second. By default gRPC waits up to two minutes between attempts, and half a minute between DNS
# lookups.
_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.dns_min_time_between_resolutions_ms", 5000),
)
# For a name with several addresses.
_ROUND_ROBIN = (
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.service_config_disable_resolution", 1),
)
# No limit here: unread answers are bounded elsewhere (service/intake.py).
_SIZES = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    *ANY_METADATA,
)
_IDLE = grpc.ChannelConnectivity.IDLE
_READY = grpc.ChannelConnectivity.READY
_FAILED = grpc.ChannelConnectivity.TRANSIENT_FAILURE
# Most silent connections that stay open for their running calls.
_MOST_DOUBTED = 8
# Least seconds between two lines of the log about one connection.
_LOG_S = 1.0
# Time limit of a wait for a change of a connection's state, in seconds.
_LOOK_S = 0.2


@dataclass(frozen=True)
class ConnectionSettings:
    """Settings of connections.

    addresses: host:port, [ipv6]:port, unix:path or dns:///name:port. keepalive_s: seconds without a byte from the mesh,
    during a call, after which it gets an HTTP/2 ping. keepalive_timeout_s: time limit of the answer to a ping.
    """

    addresses: tuple[str, ...]
    compression: grpc.Compression
    keepalive_s: float
    keepalive_timeout_s: float


class Connection:
    """A channel to one address.

    lost_s: time at which the connection was lost; None while connected. lost: number of losses. calls: running calls.
    unheard_s: start of the first call since the last message of the mesh. is_watched: whether a check for silence is
    scheduled.
    """

    def __init__(self, address: str, settings: ConnectionSettings) -> None:
        self.address = address
        self.state = _IDLE
        self.lost_s: float | None = time.monotonic()
        self.was_up = False
        self.lost = 0
        self.calls = 0
        self.unheard_s: float | None = None
        self.is_watched = False
        # Whether the log has a line that it is lost, and the time of that line.
        self.is_logged = True
        self.logged_s = float("-inf")
        self.is_closed = False
        options = [
            *_SIZES,
            *_RECONNECT,
            *_ROUND_ROBIN,
            # So that a new channel does not reuse another channel's connection to the address.
            ("grpc.use_local_subchannel_pool", 1),
            # Pings only during calls, since servers close connections that ping without any (gRFC A8).
            ("grpc.keepalive_permit_without_calls", 0),
            ("grpc.keepalive_time_ms", round(settings.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", round(settings.keepalive_timeout_s * 1000)),
            # Applies also to pings that measure bandwidth, since no other is sent before their answer.
            ("grpc.http2.ping_timeout_ms", round(settings.keepalive_timeout_s * 1000)),
        ]
        self.channel: Any = grpc.aio.insecure_channel(_target(address), options, settings.compression)
        self._unary: dict[str, Any] = {}

    def heard(self) -> None:
        """Records that the mesh sent something."""
        self.unheard_s = None

    async def close(self) -> None:
        """Cancels the calls in flight."""
        self.is_closed = True
        await self.channel.close()

    def unary(self, method: str) -> Any:
        """The unary call of a method. method: one of a bounded number of names."""
        if method not in self._unary:
            self._unary[method] = self.channel.unary_unary(method)
        return self._unary[method]


class Connections:
    """One channel for each address. All methods run on the loop."""

    def __init__(self, settings: ConnectionSettings, purpose: str) -> None:
        """purpose: purpose of the calls, for the log."""
        self._settings = settings
        self._purpose = purpose
        self._connections: list[Connection] = []
        # Replaced connections, which are closed with their last calls.
        self._doubted: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._turn = 0

    @property
    def attempts(self) -> int:
        """Most attempts of a call that reaches no mesh; a name may have a second address."""
        addresses = self._settings.addresses
        return max(len(addresses), 2 if addresses[0].startswith("dns:") else 1)

    def open(self) -> None:
        """Connects to all addresses, and again after a loss."""
        self._connections = [self._connect(address) for address in self._settings.addresses]

    def _connect(self, address: str) -> Connection:
        connection = Connection(address, self._settings)
        watch = asyncio.create_task(self._watch(connection))
        self._tasks.add(watch)
        watch.add_done_callback(self._tasks.discard)
        return connection

    @property
    def is_open(self) -> bool:
        return bool(self._connections)

    async def pick(self, deadline_s: float | None, met_none: Collection[Connection] = ()) -> Connection:
        """The next connected connection; where there is none, one whose call fails as soon as possible.

        deadline_s: on time.monotonic()'s clock, until which it waits for addresses of unknown state. met_none:
        connections on which the call reached no mesh; they come last.
        """
        if len(self._connections) == 1:
            return self._connections[0]
        left = [c for c in self._connections if c not in met_none] or self._connections
        while not (ready := [c for c in left if c.state is _READY]):
            changed = self._changed
            if all(c.state is _FAILED for c in left):
                break
            left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            try:
                async with asyncio.timeout(left_s):
                    await changed.wait()
            except TimeoutError:
                break
        return self._next(ready or left)

    def _next(self, among: Sequence[Connection]) -> Connection:
        self._turn += 1
        return among[self._turn % len(among)]

    @contextmanager
    def used(self, connection: Connection, silence_s: float) -> Iterator[None]:
        """Runs a call in the block. Where its connection hears nothing for silence_s, later calls get another
        connection: pings would be too frequent for long calls without messages."""
        if connection.unheard_s is None:
            connection.unheard_s = time.monotonic()
        if not connection.is_watched:
            connection.is_watched = True
            asyncio.get_running_loop().call_later(silence_s, self._look, connection, silence_s)
        connection.calls += 1
        try:
            yield
        finally:
            connection.calls -= 1
            self._close_doubted()

    def _look(self, connection: Connection, silence_s: float) -> None:
        connection.is_watched = False
        if connection.state is not _READY:
            connection.heard()
        if connection.unheard_s is None or connection not in self._connections:
            return
        silent_s = time.monotonic() - connection.unheard_s
        left_s = silence_s - silent_s if len(self._doubted) < _MOST_DOUBTED else silence_s
        if left_s > 0:
            connection.is_watched = True
            asyncio.get_running_loop().call_later(left_s, self._look, connection, silence_s)
            return
        _log.warning(
            "mesh connection silent: address=%s calls=%s silent_s=%.1f; later calls get another",
            connection.address,
            self._purpose,
            silent_s,
        )
        fresh = self._connect(connection.address)
        fresh.lost, fresh.was_up = connection.lost + 1, connection.was_up
        self._connections[self._connections.index(connection)] = fresh
        self._doubted.append(connection)
        self._close_doubted()

    def _close_doubted(self) -> None:
        for connection in [c for c in self._doubted if not c.calls]:
            self._doubted.remove(connection)
            close = asyncio.create_task(connection.close())
            self._tasks.add(close)
            close.add_done_callback(self._tasks.discard)

    def shown(self) -> list[tuple[str, bool, int]]:
        """(address, whether it is connected, number of losses) of each connection."""
        return [(c.address, c.state is _READY, c.lost) for c in self._connections]

    async def close(self) -> None:
        """Cancels the calls in flight."""
        connections = [*self._connections, *self._doubted]
        self._connections, self._doubted = [], []
        for connection in connections:
            await connection.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, connection: Connection) -> None:
        channel = connection.channel
        with suppress(grpc.aio.UsageError):
            has_changed = False
            while not connection.is_closed:
                state = channel.get_state(try_to_connect=True)
                if has_changed and state is connection.state is _READY:
                    # Lost and reconnected already.
                    self._note(connection, _IDLE)
                if state is not connection.state:
                    self._note(connection, state)
                # Not wait_for_state_change, which would wait for ever on a closed channel.
                has_changed = await channel._channel.watch_connectivity_state(
                    state.value[0], time.time() + _LOOK_S
                )

    def _note(self, connection: Connection, state: grpc.ChannelConnectivity) -> None:
        before, connection.state = connection.state, state
        now_s = time.monotonic()
        where = f"address={connection.address} calls={self._purpose}"
        if state is _READY and connection.lost_s is not None:
            if connection.is_logged:
                word = "back" if connection.was_up else "made"
                _log.info("mesh connection %s: %s after_s=%.1f", word, where, now_s - connection.lost_s)
            connection.lost_s, connection.was_up = None, True
            # Waiting calls count as begun now.
            connection.unheard_s = now_s if connection.calls else None
        elif before is _READY:
            connection.is_logged = now_s - connection.logged_s > _LOG_S
            connection.lost += 1
            connection.lost_s = now_s
            if connection.is_logged:
                connection.logged_s = now_s
                _log.warning("mesh connection lost: %s", where)
        elif state is _FAILED and connection.lost_s is not None and connection.is_logged:
            down_s = now_s - connection.lost_s
            _log.warning("mesh connection failed: %s down_s=%.1f; it is tried again", where, down_s)
        self._changed.set()
        self._changed = asyncio.Event()


def _target(address: str) -> str:
    """The address in gRPC's syntax of name resolution."""
    if address.startswith(("dns:///", "unix:")):
        return address
    host, _, port = address.rpartition(":")
    try:
        version = ipaddress.ip_address(host.strip("[]")).version
    except ValueError:
        return f"dns:///{address}"
    return f"ipv{version}:{host}:{port}"
