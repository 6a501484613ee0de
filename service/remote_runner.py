"""The server's handle of a snapshot that other processes loaded: its facts, and connections to its workers."""

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
from meshfold.service import niceness
from meshfold.service.fork_server import ForkServer, request_process
from meshfold.service.lane import Ticket
from meshfold.service.service_times import ServiceTimes
from meshfold.service.snapshot_process import (
    AbandonedNumbers,
    Facts,
    HoldsRequest,
    Loading,
    LoadingFailed,
    WorkerRequest,
    WorkerStart,
)
from meshfold.service.work import Request

_log = logging.getLogger(__name__)

Denied = Callable[[], tuple[str, ...]]


class RemoteRunner:
    """Answers requests from one snapshot, on any thread; a call has a worker process to itself while it runs.

    surface, version, schema: the snapshot's. items: number of items. candidates: the fewest candidates of a query.
    The processes end when this object is freed.
    """

    def __init__(
        self, processes: ForkServer, abandoned: AbandonedNumbers, loading: Loading, denied: Denied
    ) -> None:
        """denied: returns the ids of denied items, the same object until they change.

        Raises SnapshotRefused where the folder is not a whole snapshot of the surface.
        """
        self._abandoned = abandoned
        self._denied = denied
        facts, control = _load(processes, loading)
        self.surface, self.version, self.schema = facts.surface, facts.version, facts.schema
        self.items, self.candidates = facts.items, facts.candidates
        self._control, self._forking = control, threading.Lock()
        # Workers that wait for a request, by niceness; the most recently used is last.
        self._idle: dict[int, list[_Worker]] = {0: [], niceness.BACKGROUND: []}
        self.is_broken = False
        self._first_denied = loading.denied
        self._finalize = weakref.finalize(self, _close, control, self._idle)

    def start(self, workers: int, warming: Sequence[tuple[str, bytes]] = (), warming_nice: int = 0) -> None:
        """Forks workers ahead, so that no request waits for a fork, and waits until they are warm.

        warming, warming_nice: as WorkerStart has them. A worker that ends meanwhile is forked again when it is needed.
        """
        made = [self._fork(0, warming, warming_nice) for _ in range(workers)]
        for worker in made:
            try:
                if warming:
                    worker.receive()
            except (EOFError, OSError):
                worker.close()
            else:
                self._idle[0].append(worker)

    def close(self) -> None:
        """Ends idle processes at once, and each busy process after its request."""
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
        """Returns the bytes of the answer; None where the request was abandoned.

        user: replaces the message's user; None keeps it. threads: of the forward pass. started: called with the
        function that abandons the request. Raises the errors of preparing and running the request, and Unavailable
        where the worker process ends.
        """
        denied = self._denied()

        def ask(worker: _Worker) -> Any:
            worker.number += 1
            number = worker.number
            new_denied = None if denied is worker.denied else denied
            worker.denied = denied
            started(lambda: self._abandoned.abandon(worker.slot, number))
            return worker.ask(WorkerRequest(number, method, message, user, new_denied, threads))

        reply: bytes | Exception | None = self._with_worker(niceness.BACKGROUND if background else 0, ask)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def holds(self, item_ids: Sequence[str]) -> list[bool]:
        """Returns for each item whether the snapshot has it. item_ids: text; integer ids in decimal digits."""
        request = HoldsRequest(tuple(item_ids))
        is_item: list[bool] = self._with_worker(niceness.BACKGROUND, lambda worker: worker.ask(request))
        return is_item

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

    def _fork(self, nice: int, warming: Sequence[tuple[str, bytes]] = (), warming_nice: int = 0) -> _Worker:
        try:
            connection = request_process(self._control, self._forking)
            slot = self._abandoned.take()
            connection.send(WorkerStart(slot, nice, warming, warming_nice))
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
    """Resolves every request of a batch in worker processes, one after another.

    cores: threads of the forward pass where is_alone. is_alone: no other request runs or waits.
    """
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
            # An abandoned pass would have taken longer, so that a shorter time than expected is no measurement.
            took_s = max(took_s, request.expected.mean_s)
        else:
            request.succeed(reply)
        times.observe(request.kind, request.price_s, took_s)


def _user_of(query: Any) -> User | None:
    """The user of a query that the server decoded to fill in its user; None for other queries."""
    if not isinstance(query, Query):
        return None
    return User(query.user_id, query.history, dict(query.features))


class _Worker:
    """The server's end of a worker process. denied: the denied ids that the process has received."""

    def __init__(
        self, connection: Connection, slot: int, abandoned: AbandonedNumbers, denied: tuple[str, ...]
    ) -> None:
        self._connection = connection
        self._abandoned = abandoned
        self.slot = slot
        self.number = 0
        self.denied = denied

    def ask(self, request: WorkerRequest | HoldsRequest) -> Any:
        """Sends the request and returns the reply. Raises EOFError or OSError where the process has ended."""
        self._connection.send(request)
        return self.receive()

    def receive(self) -> Any:
        """Raises EOFError or OSError where the process has ended."""
        return self._connection.recv()

    def close(self) -> None:
        self._connection.close()
        self._abandoned.abandon(self.slot, 0)
        self._abandoned.give_back(self.slot)


def _load(processes: ForkServer, loading: Loading) -> tuple[Facts, socket.socket]:
    """Loads a snapshot in a new process. Returns its facts, and the socket on which that process takes requests to
    fork. Raises SnapshotRefused."""
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
