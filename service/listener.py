"""Where a server of snapshots answers: its ports, what callers hold of it, its health, its start and its stop."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from meshfold.service import collector, discovery
from meshfold.service.call import Answer
from meshfold.service.config import ServerConfig
from meshfold.service.event_loop import EventLoop
from meshfold.service.intake import Intake, IntakeLimits, Operation, Operators, split_method
from meshfold.service.ports import NO_ADDRESS, PortLimits, listening, operators_address, stop

if TYPE_CHECKING:
    from meshfold.service.front import Front
    from meshfold.service.metrics import Metrics

_log = logging.getLogger(__name__)

# How long a thread may keep Python's lock from another that wants it. A forward pass takes the lock some hundred times:
# at Python's own 5 ms a busy background thread doubles its time.
_SWITCH_S = 0.0005
# The name under which health checks tell whether other servers' changes come into effect here.
STATE = "meshfold.state"
# Between looks whether they do.
_LOOK_S = 0.2
# Without calls for so long, a server that is to stop has none on their way.
_QUIET_S = 0.1

# Stops what computes answers. Given: the seconds of the grace that are left, each time it is asked.
End = Callable[[Callable[[], float]], None]


class Listener:
    """Listens from listen() on, answers from start() to stop(). What computes answers is its owner's."""

    def __init__(
        self, config: ServerConfig, is_serving: Callable[[], bool], follows: Callable[[], bool] = lambda: True
    ) -> None:
        """is_serving: whether the owner can answer now, for health checks. follows: whether what other servers change
        comes into effect here.

        Raises InvalidConfig where metrics cannot be listened on.
        """
        self._config = config
        self._is_serving, self._follows = is_serving, follows
        self.address = self.admin_address = self.metrics_address = ""
        self.metrics: Metrics | None = None
        if config.metrics_address:
            from meshfold.service.metrics import Metrics

            self.metrics = Metrics()
            self.metrics_address = self.metrics.listen(config.metrics_address)
        limits = IntakeLimits(
            config.timeout_s,
            config.queue_bytes,
            config.unread_bytes,
            config.migration.passed_calls,
            config.migration.passed_idle_s,
        )
        # What callers hold of the server is nothing that operators wait for.
        self.intake, self._own_intake = Intake(limits), Intake(limits)
        self._operators = Operators()
        self._events = EventLoop("meshfold-loop")
        self._servers: list[Any] = []
        self._ends: list[asyncio.Task[None]] = []
        self._health: discovery.Health | None = None
        # Services of the callers' port, and those that answer whether the owner can or not.
        self._services: frozenset[str] = frozenset()
        self._always: frozenset[str] = frozenset()
        self._started = self._ended = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Runs the answers."""
        return self._events.loop

    def listen(
        self,
        answers: Mapping[str, Answer],
        front: Front | None = None,
        operations: Mapping[str, Operation] | None = None,
        pools: Sequence[Any] = (),
    ) -> None:
        """answers: by full name. front: answers operators, and the calls that nobody here knows. operations: of those
        who operate it, by full name, besides the front's. pools: of descriptors that reflection shows, too.

        Raises InvalidConfig where an address cannot be listened on.
        """
        self._services = frozenset(split_method(name)[0] for name in answers)
        # With a mesh behind it a server answers before anything is published.
        self._always = frozenset(() if front is None else ("", *front.services))
        operated = {**(operations or {}), **({} if front is None else front.operations)}
        self._events.run(self._listen(answers, front, operated, pools))

    def start(self, load: Callable[[], None], on_failure: Callable[[], None] = lambda: None) -> None:
        """Loads, then answers. load: makes the owner ready. on_failure: called where gRPC ends by itself."""
        self._on_failure = on_failure
        sys.setswitchinterval(_SWITCH_S)
        collector.start()
        load()
        collector.settle()
        self._started = True
        self._events.run(self._start())

    def changed(self) -> None:
        """What the owner serves has changed; from any thread."""
        if not self._started:
            return
        collector.settle()
        # A loop that is closed has no callers either.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._show_health)

    def stop(self, quiet_s: Callable[[], float], end: End) -> None:
        """Sends callers elsewhere, ends the calls in flight, all within the grace; cancels the rest. Once is enough.

        quiet_s: seconds since the owner was last asked; inf where it never was.
        """
        if self._ended:
            return
        grace_s = self._config.shutdown_grace_s
        start_s = time.monotonic()
        end_s = start_s + grace_s
        _log.info("stopping: address=%s grace_s=%g calls=%d", self.address, grace_s, self.intake.calls())
        if self._health is not None:
            self.loop.call_soon_threadsafe(self._health.stop)
            # Those that watch it are told before their streams end.
            time.sleep(min(_QUIET_S, grace_s / 10))
        # Callers that check health go elsewhere. Those that go on calling are answered for half of the grace.
        while quiet_s() < _QUIET_S and time.monotonic() < end_s - grace_s / 2:
            time.sleep(_QUIET_S / 5)
        # Then they are told to ask another until the last has left: a stop cancels calls that gRPC has not handed over.
        for intake in (self.intake, self._own_intake):
            self.loop.call_soon_threadsafe(intake.refuse)
        while not self.intake.is_quiet(_QUIET_S) and time.monotonic() < end_s:
            time.sleep(_QUIET_S / 5)
        left = self.intake.calls()
        self.close(end, max(0.0, end_s - time.monotonic()))
        _log.info("stopped: took_s=%.1f cancelled=%d", time.monotonic() - start_s, left)

    def close(self, end: End, grace_s: float = 0.0) -> None:
        """Stops at once: calls in flight have the grace, new ones are refused."""
        self._ended = True
        end_s = time.monotonic() + grace_s
        self._events.run(stop(self._servers, grace_s))
        self._operators.stop()
        end(lambda: max(0.0, end_s - time.monotonic()))
        if self.metrics is not None:
            self.metrics.stop()
        self._events.stop()

    async def _listen(
        self,
        answers: Mapping[str, Answer],
        front: Front | None,
        operations: Mapping[str, Operation],
        pools: Sequence[Any],
    ) -> None:
        config, intake, age_s = self._config, self.intake, self._config.connection_age_s
        self._health = discovery.health()
        # Handlers are asked in their order: what none of them knows is passed on.
        passed = [] if front is None else [intake.passed(front.passed)]
        callers, self.address = listening(
            config.address,
            "--address",
            [
                *intake.unary(answers),
                *discovery.handlers(intake, sorted(self._services), self._health, pools),
                *passed,
            ],
            PortLimits(config.max_message_bytes, config.metadata_bytes, age_s),
        )
        self._servers.append(callers)
        if config.admin_address == NO_ADDRESS:
            return
        own = self._own_intake
        operated = sorted({split_method(name)[0] for name in operations})
        operators, self.admin_address = listening(
            operators_address(config.admin_address, self.address, _port(config.address)),
            "--admin-address",
            [
                *own.unary(self._operators.answers(operations)),
                *discovery.handlers(own, operated, self._health),
            ],
            PortLimits(config.max_message_bytes, age_s=age_s),
        )
        self._servers.append(operators)

    async def _start(self) -> None:
        self._show_health()
        self._looking = asyncio.create_task(self._look())
        for server in self._servers:
            await server.start()
            self._ends.append(asyncio.create_task(self._watch_end(server)))

    async def _watch_end(self, server: Any) -> None:
        await server.wait_for_termination()
        if not self._ended:
            _log.critical("gRPC's server ended by itself, so that nothing is answered any more")
            if self._health is not None:
                self._health.stop()
            self._on_failure()

    async def _look(self) -> None:
        """Shows when the owner begins or ceases to follow others, for ever."""
        shown = self._follows()
        while True:
            await asyncio.sleep(_LOOK_S)
            if (follows := self._follows()) != shown:
                shown = follows
                self._show_health()

    def _show_health(self) -> None:
        if self._health is not None:
            serving = self._is_serving()
            services = {"", *self._services, *self._always}
            shown = {service: serving or service in self._always for service in services}
            self._health.set({**shown, STATE: self._follows()})


def _port(address: str) -> int:
    return 0 if address.startswith("unix:") else int(address.rpartition(":")[2])
