"""A loaded snapshot as the server holds it: what it is, and connections to the processes that answer for it."""

from __future__ import annotations

import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, cast

from meshfold.model.errors import SnapshotRefused, Unavailable
from meshfold.model.types import Query, User
from meshfold.service.fork_server import ForkServer, forked
from meshfold.service.lane import Ticket
from meshfold.service.service_times import ServiceTimes
from meshfold.service.snapshot_process import (
    AbandonedNumbers,
    Asked,
    Beginning,
    Facts,
    Held,
    Loading,
    LoadingFailed,
)
from meshfold.service.work import Request

_log = logging.getLogger(__name__)

# How much a background worker leaves to others; 0 is usual, 19 the least.
_NICE = 5

Denied = Callable[[], tuple[str, ...]]


class RemoteRunner:
    """Answers for one snapshot, from any thread: each call has a worker of its own meanwhile.

    surface, version, schema: the snapshot's. items: how many it has. candidates: that a query has at least. Its
    processes end when it is freed.
    """

    def __init__(
        self, processes: ForkServer, abandoned: AbandonedNumbers, loading: Loading, denied: Denied
    ) -> None:
        """denied: items that no answer may have; the same object until they change.

        Raises SnapshotRefused where the folder is no whole snapshot of the surface.
        """
        self._abandoned = abandoned
        self._denied = denied
        facts, control = _loaded(processes, loading)
        self.surface, self.version, self.schema = facts.surface, facts.version, facts.schema
        self.items, self.candidates = facts.items, facts.candidates
        self._control, self._forking = control, threading.Lock()
        # Those that wait for a request, the last that was busy last; by niceness.
        self._idle: dict[int, list[_Worker]] = {0: [], _NICE: []}
        self.is_broken = False
        self._first_denied = loading.denied
        self._finalize = weakref.finalize(self, _close, control, self._idle)

    def start(self, workers: int) -> None:
        """Forks workers, so that no request waits for one."""
        made = [self._fork(0) for _ in range(workers)]
        self._idle[0] += made

    def close(self) -> None:
        """Ends the processes that are not in a request, and the others after it."""
        self._finalize()

    def answer(
        self,
        method: str,
        message: bytes,
        user: User | None = None,
        background: bool = False,
        threads: int = 1,
        started: Callable[[Callable[[], None]], None] = lambda abandon: None,
    ) -> bytes | None:
        """The answer's bytes; None where it was abandoned.

        user: in place of the message's; None where that is as it came. threads: for the pass. started: is given what
        abandons the request. Raises what preparing and running the request raises, Unavailable where the worker ends.
        """
        denied = self._denied()

        def ask(worker: _Worker) -> Any:
            worker.number += 1
            number = worker.number
            news = None if denied is worker.denied else denied
            worker.denied = denied
            started(lambda: self._abandoned.abandon(worker.slot, number))
            return worker.ask(Asked(number, method, message, user, news, threads))

        reply: bytes | Exception | None = self._with_worker(_NICE if background else 0, ask)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def holds(self, item_ids: Sequence[str]) -> list[bool]:
        """Whether the snapshot has each of the items. item_ids: as text, integers in decimal digits."""
        held: list[bool] = self._with_worker(_NICE, lambda worker: worker.ask(Held(tuple(item_ids))))
        return held

    def _with_worker(self, nice: int, ask: Callable[[_Worker], Any]) -> Any:
        idle = self._idle[nice]
        try:
            worker = idle.pop()
        except IndexError:
            worker = self._fork(nice)
        try:
            reply = ask(worker)
        except (EOFError, OSError):
            worker.close()
            _log.error(
                "surface %s: a worker of version %s ended in a request", self.surface, self.version[:12]
            )
            raise Unavailable("the process that computed the answer has ended; try again") from None
        except BaseException:
            worker.close()
            raise
        if self._finalize.alive:
            idle.append(worker)
        else:
            worker.close()
        return reply

    def _fork(self, nice: int) -> _Worker:
        try:
            connection = forked(self._control, self._forking)
            slot = self._abandoned.take()
            connection.send(Beginning(slot, nice))
        except OSError:
            if not self.is_broken:
                self.is_broken = True
                _log.critical(
                    "surface %s: the processes of version %s have ended", self.surface, self.version[:12]
                )
            raise Unavailable("the snapshot is loaded again; try again in some seconds", 1.0) from None
        return _Worker(connection, slot, self._abandoned, self._first_denied)


def answer_remotely(
    cores: int, times: ServiceTimes, clock: Callable[[], float], batch: Sequence[Ticket], is_alone: bool
) -> None:
    """Resolves every request of a batch, one after another. cores: threads for a request that is alone."""
    for request in cast(Sequence[Request], batch):
        start_s = clock()
        try:
            reply = request.work.runner.answer(
                request.work.adapter.METHOD,
                request.message,
                _user_of(request.query),
                request.is_background,
                cores if is_alone else 1,
                request.started,
            )
        except Exception as error:
            request.fail(error)
            continue
        took_s = clock() - start_s
        if reply is None:
            # An abandoned pass would have taken longer; what was expected is the better guess where it was short.
            took_s = max(took_s, request.expected.mean_s)
        else:
            request.succeed(reply)
        times.observe(request.kind, request.price_s, took_s)


def _user_of(query: Any) -> User | None:
    """Of a query that was decoded, for the server to fill its user in."""
    if not isinstance(query, Query):
        return None
    return User(query.user_id, query.history, dict(query.features))


class _Worker:
    """denied: what it has been told."""

    def __init__(
        self, connection: Connection, slot: int, abandoned: AbandonedNumbers, denied: tuple[str, ...]
    ) -> None:
        self._connection = connection
        self._abandoned = abandoned
        self.slot = slot
        self.number = 0
        self.denied = denied

    def ask(self, asked: Asked | Held) -> Any:
        """Raises EOFError or OSError where the process has ended."""
        self._connection.send(asked)
        return self._connection.recv()

    def close(self) -> None:
        self._connection.close()
        self._abandoned.abandon(self.slot, 0)
        self._abandoned.give_back(self.slot)


def _loaded(processes: ForkServer, loading: Loading) -> tuple[Facts, socket.socket]:
    """What was loaded, and where its first process is told to fork. Raises SnapshotRefused."""
    try:
        connection = processes.fork()
    except OSError:
        raise SnapshotRefused(
            f"{loading.folder}: the server can start no process any more; restart it"
        ) from None
    try:
        connection.send(loading)
        reply = connection.recv()
    except (EOFError, OSError):
        raise SnapshotRefused(
            f"{loading.folder}: the process that loaded it has ended; where the system ended it, memory was short"
        ) from MemoryError()
    if isinstance(reply, LoadingFailed):
        connection.close()
        raise reply.error from (MemoryError() if reply.may_pass else None)
    control = socket.socket(fileno=os.dup(connection.fileno()))
    connection.close()
    return reply, control


def _close(control: socket.socket, idle: dict[int, list[_Worker]]) -> None:
    with suppress(OSError):
        control.close()
    for workers in idle.values():
        for worker in workers:
            worker.close()
