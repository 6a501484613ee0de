"""A circuit breaker for the mesh, which also bounds the number of calls that wait for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import grpc.aio

from meshfold.model.errors import Overloaded, Unavailable
from meshfold.service.errors import code_of
from meshfold.service.migration import MigrationConfig

_log = logging.getLogger(__name__)

# Statuses of a mesh that is down: unreachable, stopping, or too slow.
DOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)

# Failures in a row after which the mesh counts as down.
_FAILURES = 8
# The mesh also counts as down where this many calls wait and no answer came for a factor times the usual time of an
# answer, and at least for some seconds.
_WAITING, _USUAL_TIMES, _SILENCE_S = 8, 10.0, 0.25
# Seconds until a mesh that is down is tried again, doubled with each failed try up to the longest.
_TRY_S, _LONGEST_TRY_S = 0.5, 2.0
# Time limit of a try, in seconds.
_TRIAL_S = 2.0
_WEIGHT = 1 / 8
# Least seconds between two lines of the log about one surface.
_LOG_S = 1.0


class MeshCall:
    """A call to the mesh. given_s: its time limit in seconds."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self.given_s = most_s

    def timeout_s(self, deadline_s: float) -> float:
        """The time limit of the call, in seconds, at most until its deadline."""
        self.given_s = max(0.0, min(self._most_s, deadline_s - time.monotonic()))
        return self.given_s


class _Surface:
    """The breaker of a surface. waiting: number of running calls. failures: consecutive failures. usual_s: mean time of
    an answer. opened_s: time at which it opened. tries: tries of the mesh since then. is_logged: whether the log has a
    line that it is open."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting = 0
        self.failures = 0
        self.usual_s = 0.0
        self.last_answer_s = float("-inf")
        self.first_waiting_s = 0.0
        self.open_until_s = float("-inf")
        self.try_s = _TRY_S
        self.is_open = False
        self.is_trying = False
        self.opened_s = float("-inf")
        self.tries = 0
        self.is_logged = False


class Breaker:
    """A circuit breaker with a state for each surface: closed, open or half-open.

    It opens after consecutive failures, or once many calls wait and none was answered for long. While it is open calls
    fail at once, except for occasional tries; an answered try closes it. Used on one loop.
    """

    def __init__(self, config: MigrationConfig) -> None:
        """config: without `fallback` the breaker refuses no calls to a mesh that is down, and only bounds their
        number."""
        self._config = config
        self._surfaces: dict[str, _Surface] = {}
        self._waiting = 0
        # Number of times it opened, by surface.
        self.opened: dict[str, int] = {}

    def is_open(self, surface: str) -> bool:
        """Whether the mesh counts as down for a surface."""
        found = self._surfaces.get(surface)
        return found is not None and found.is_open

    def waiting(self) -> int:
        """Number of calls that wait for the mesh."""
        return self._waiting

    @contextmanager
    def call(self, surface: str, is_shadow: bool = False) -> Iterator[MeshCall]:
        """Runs a call to the mesh in the block, and counts the status that it raises.

        surface: one of a bounded number of labels. is_shadow: whether it is a shadow, which is never a try. Raises
        Unavailable where the breaker is open, Overloaded where too many calls wait.
        """
        state = self._surfaces.setdefault(surface, _Surface(surface))
        now_s = time.monotonic()
        is_try = self._admit(state, now_s, is_shadow)
        call = MeshCall(min(self._config.mesh_timeout_s, _TRIAL_S) if is_try else self._config.mesh_timeout_s)
        if not state.waiting:
            state.first_waiting_s = now_s
        state.waiting += 1
        self._waiting += 1
        try:
            yield call
        except asyncio.CancelledError:
            # A caller that left is no failure of the mesh.
            raise
        except Exception as error:
            code = code_of(error)
            hurried = code is grpc.StatusCode.DEADLINE_EXCEEDED and call.given_s < self._silence_s(state)
            # A deadline shorter than usual answers is no failure of the mesh, nor is a call that was never sent.
            if code in DOWN:
                if is_try or not hurried:
                    self._failed(state, is_try)
            elif isinstance(error, grpc.aio.AioRpcError):
                self._answered(state, now_s)
            raise
        else:
            self._answered(state, now_s)
        finally:
            state.waiting -= 1
            self._waiting -= 1
            if is_try:
                state.is_trying = False

    def _admit(self, state: _Surface, now_s: float, is_shadow: bool) -> bool:
        """Admits a call; returns whether it is a try. Raises Unavailable, Overloaded."""
        # A surface may have at most as many waiting calls as are still free.
        if state.waiting >= self._config.mesh_waiting - self._waiting:
            raise Overloaded(
                f"{state.waiting} calls wait for the mesh already; try again later", state.usual_s
            )
        if not state.is_open and self._is_silent(state, now_s):
            self._open(state, now_s, f"{state.waiting} calls wait and none is answered")
        if not state.is_open or not self._config.fallback:
            return False
        if now_s < state.open_until_s or state.is_trying or is_shadow:
            left_s = max(state.open_until_s - now_s, _TRY_S)
            raise Unavailable(f"the mesh does not answer; it is tried again in {left_s:.1f} s", left_s)
        state.is_trying = True
        if state.is_logged and not state.tries:
            _log.info("mesh breaker half-open: surface=%s; one call tries the mesh", state.name)
        state.tries += 1
        return True

    def _is_silent(self, state: _Surface, now_s: float) -> bool:
        since_s = now_s - max(state.last_answer_s, state.first_waiting_s)
        return state.waiting >= _WAITING and since_s > self._silence_s(state)

    def _silence_s(self, state: _Surface) -> float:
        """Seconds without an answer from which the mesh counts as down."""
        return min(max(_SILENCE_S, _USUAL_TIMES * state.usual_s), self._config.mesh_timeout_s)

    def _failed(self, state: _Surface, is_try: bool) -> None:
        state.failures += 1
        # Calls that ran when it opened do not count again.
        if is_try or (not state.is_open and state.failures >= _FAILURES):
            self._open(state, time.monotonic(), f"{state.failures} failures in a row")

    def _answered(self, state: _Surface, start_s: float) -> None:
        state.last_answer_s = time.monotonic()
        took_s = state.last_answer_s - start_s
        state.usual_s = took_s if not state.usual_s else state.usual_s + _WEIGHT * (took_s - state.usual_s)
        state.failures = 0
        state.try_s = _TRY_S
        if state.is_open and state.is_logged:
            down_s = state.last_answer_s - state.opened_s
            _log.info("mesh breaker closed: surface=%s down_s=%.1f tries=%d", state.name, down_s, state.tries)
        state.is_open = False

    def _open(self, state: _Surface, now_s: float, why: str) -> None:
        if state.is_open:
            state.try_s = min(2 * state.try_s, _LONGEST_TRY_S)
        else:
            self.opened[state.name] = self.opened.get(state.name, 0) + 1
            state.is_logged = now_s - state.opened_s > _LOG_S
            state.opened_s, state.tries = now_s, 0
            if state.is_logged:
                does = "calls fail at once" if self._config.fallback else "calls go on asking it"
                _log.warning("mesh breaker open: surface=%s: %s; %s", state.name, why, does)
        state.is_open = True
        state.open_until_s = now_s + state.try_s
