"""The network side of a server: its ports, limits on callers, health checks, start and stop."""

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

# Seconds until Python's lock goes to a waiting thread. A forward pass takes the lock some hundred times; at Python's
# default of 5 ms a busy background thread doubles the time of a pass.
_SWITCH_S = 0.0005
# Service name of the health check of whether other servers' changes come into effect here.
STATE = "meshfold.state"
# Seconds between checks of whether they do.
_LOOK_S = 0.2
# Seconds without a call after which a stopping server expects no further one.
_QUIET_S = 0.1

# Stops the computation of answers. Argument: a function that returns the seconds left of the grace.
End = Callable[[Callable[[], float]], None]


class Listener:
    """Binds ports in listen(), answers from start() to stop(). The owner computes the answers."""

    def __init__(
        self, config: ServerConfig, is_serving: Callable[[], bool], follows: Callable[[], bool] = lambda: True
    ) -> None:
        """is_serving: returns whether the owner can answer now, for health checks. follows: returns whether changes of
        other servers come into effect here.

        Raises InvalidConfig where the metrics address cannot be bound.
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
        # Callers and operators have separate limits, so that callers cannot lock operators out.
        self.intake, self._own_intake = Intake(limits), Intake(limits)
        self._operators = Operators()
        self._events = EventLoop("meshfold-loop")
        self._servers: list[Any] = []
        self._ends: list[asyncio.Task[None]] = []
        self._health: discovery.Health | None = None
        # Services of the callers' port, and those of them that answer even while the owner cannot.
        self._services: frozenset[str] = frozenset()
        self._always: frozenset[str] = frozenset()
        self._started = self._ended = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that runs the answers."""
        return self._events.loop

    def listen(
        self,
        answers: Mapping[str, Answer],
        front: Front | None = None,
        operations: Mapping[str, Operation] | None = None,
        pools: Sequence[Any] = (),
    ) -> None:
        """Binds the ports.

        answers: by full method name. front: answers calls of unknown methods, and has operations of its own.
        operations: operators' calls by full method name. pools: further descriptor pools for reflection.

        Raises InvalidConfig where an address cannot be bound.
        """
        self._services = frozenset(split_method(name)[0] for name in answers)
        # A server in front of a mesh answers before any snapshot is published.
        self._always = frozenset(() if front is None else ("", *front.services))
        operated = {**(operations or {}), **({} if front is None else front.operations)}
        self._events.run(self._listen(answers, front, operated, pools))

    def start(self, load: Callable[[], None], on_failure: Callable[[], None] = lambda: None) -> None:
        """Calls load, then answers. load: makes the owner ready. on_failure: called where gRPC ends by itself."""
        self._on_failure = on_failure
        sys.setswitchinterval(_SWITCH_S)
        collector.start()
        load()
        collector.settle()
        self._started = True
        self._events.run(self._start())

    def changed(self) -> None:
        """Updates health checks after the owner's surfaces changed. Callable from any thread."""
        if not self._started:
            return
        collector.settle()
        # A closed loop has no callers to inform.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._show_health)

    def stop(self, quiet_s: Callable[[], float], end: End) -> None:
        """Within the grace directs callers to other servers and ends the calls in flight; then cancels the rest.

        Later calls do nothing. quiet_s: returns the seconds since the owner's last request; inf where there was none.
        """
        if self._ended:
            return
        grace_s = self._config.shutdown_grace_s
        start_s = time.monotonic()
        end_s = start_s + grace_s
        _log.info("stopping: address=%s grace_s=%g calls=%d", self.address, grace_s, self.intake.calls())
        if self._health is not None:
            self.loop.call_soon_threadsafe(self._health.stop)
            # Watchers of the health check get the change before their streams end.
            time.sleep(min(_QUIET_S, grace_s / 10))
        # Callers that check health use other servers. Further calls are answered for half of the grace.
        while quiet_s() < _QUIET_S and time.monotonic() < end_s - grace_s / 2:
            time.sleep(_QUIET_S / 5)
        # Further calls are then refused until they cease, since a stop cancels calls that gRPC has not handed over.
        for intake in (self.intake, self._own_intake):
            self.loop.call_soon_threadsafe(intake.refuse)
        while not self.intake.is_quiet(_QUIET_S) and time.monotonic() < end_s:
            time.sleep(_QUIET_S / 5)
        left = self.intake.calls()
        self.close(end, max(0.0, end_s - time.monotonic()))
        _log.info("stopped: took_s=%.1f cancelled=%d", time.monotonic() - start_s, left)

    def close(self, end: End, grace_s: float = 0.0) -> None:
        """Stops at once: refuses new calls, gives calls in flight the grace."""
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
        # gRPC tries handlers in order, so that the last one passes on what no other handles.
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
        """Updates the health check STATE each time the owner begins or ceases to follow others, for ever."""
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
