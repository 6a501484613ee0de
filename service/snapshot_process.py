"""Processes of one snapshot: the first loads it and forks workers, which share its memory and answer requests.

A worker computes on one thread. One worker per core gives more answers a second than threads that share Python's lock,
and more than forward passes that each use all cores. All workers share one copy of the index, since no process writes
to memory that the first one loaded.
"""

from __future__ import annotations

import gc
import mmap
import os
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import torch

from meshfold.model.errors import InvalidQuery, MeshfoldError, SnapshotRefused
from meshfold.model.limits import Limits
from meshfold.model.schema import Schema
from meshfold.model.stages import Abandoned, abandoned_when
from meshfold.model.types import Query, User
from meshfold.service import collector
from meshfold.service.errors import log_failure
from meshfold.service.fork_server import fork_on_request, wait_for
from meshfold.service.niceness import be_nicer
from meshfold.service.runner import Runner
from meshfold.service.warming import warm
from meshfold.service.work import Adapter, Work, run_alone

# Most worker processes at a time, over all snapshots.
_SLOTS = 1 << 14
_NUMBER = struct.Struct("<Q")


class AbandonedNumbers:
    """Memory shared by all processes: for each worker a slot with the number of its abandoned request."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SLOTS * _NUMBER.size)
        self._free = list(range(_SLOTS))

    def take(self) -> int:
        """Returns a free slot. Raises IndexError where all are taken."""
        return self._free.pop()

    def give_back(self, slot: int) -> None:
        self._free.append(slot)

    def abandon(self, slot: int, number: int) -> None:
        _NUMBER.pack_into(self._memory, slot * _NUMBER.size, number)

    def is_abandoned(self, slot: int, number: int) -> bool:
        found: int = _NUMBER.unpack_from(self._memory, slot * _NUMBER.size)[0]
        return found == number


@dataclass(frozen=True)
class Loading:
    """A request to load a snapshot.

    denied: ids of denied items. requests: (method, message) pairs that warm the snapshot. threads: of the load. nice:
    niceness of the load, added to the server's own.
    """

    folder: Path
    surface: str
    denied: tuple[str, ...]
    requests: Sequence[tuple[str, bytes]]
    threads: int
    nice: int


@dataclass(frozen=True)
class Facts:
    """A loaded snapshot. items: number of items. candidates: the fewest candidates of a query."""

    surface: str
    version: str
    schema: Schema
    items: int
    candidates: int


@dataclass(frozen=True)
class LoadingFailed:
    """The error of a load. may_pass: whether its cause may be gone soon, such as too little memory."""

    error: Exception
    may_pass: bool


@dataclass(frozen=True)
class WorkerStart:
    """The first message to a worker.

    slot: in AbandonedNumbers. nice: niceness added to the server's own. warming: (method, message) pairs that the
    worker answers for itself, at warming_nice, before it replies with None and is ready; none where it is needed at
    once.
    """

    slot: int
    nice: int
    warming: Sequence[tuple[str, bytes]] = ()
    warming_nice: int = 0


@dataclass(frozen=True)
class WorkerRequest:
    """A caller's request, as sent to a worker.

    number: the request's place among this worker's requests, from 1. user: replaces the message's user; None keeps it.
    denied: ids of denied items from now on; None where they have not changed. threads: of the forward pass.
    """

    number: int
    method: str
    message: bytes
    user: User | None
    denied: tuple[str, ...] | None
    threads: int


@dataclass(frozen=True)
class HoldsRequest:
    """A request to look items up: the worker replies with one bool per item, whether the snapshot has it."""

    item_ids: Sequence[str]


class SnapshotProcess:
    """The work of every process of a snapshot. Made before the server forks."""

    def __init__(
        self, adapters: Sequence[Adapter[Any, Any]], limits: Limits, abandoned: AbandonedNumbers
    ) -> None:
        self._adapters: Mapping[str, Adapter[Any, Any]] = {adapter.METHOD: adapter for adapter in adapters}
        self._limits = limits
        self._abandoned = abandoned
        self._denied: tuple[str, ...] = ()

    def serve(self, connection: Connection) -> None:
        """Loads the snapshot of the first message, replies with Facts or LoadingFailed, then forks workers until the
        server closes the connection."""
        loaded: list[Runner | LoadingFailed] = []
        loading = connection.recv()
        # Loads on a thread of its own: its niceness cannot be lowered again, and a fork would not copy its OpenMP pool.
        loader = threading.Thread(target=lambda: loaded.append(self._load(loading)), name="meshfold-loader")
        loader.start()
        loader.join()
        (runner,) = loaded
        if isinstance(runner, LoadingFailed):
            connection.send(runner)
            return
        collector.settle()
        # Frozen, since a garbage collection in a worker would write to every object and so copy its memory page.
        gc.freeze()
        connection.send(Facts(runner.surface, runner.version, runner.schema, runner.items, runner.candidates))
        with socket.socket(fileno=os.dup(connection.fileno())) as control:
            connection.close()
            pids = fork_on_request(control, lambda worker: self._work(runner, worker))
        wait_for(pids)

    def _load(self, loading: Loading) -> Runner | LoadingFailed:
        try:
            be_nicer(loading.nice)
            torch.set_num_threads(loading.threads)
            self._denied = loading.denied
            runner = Runner.open(loading.folder, loading.surface, denied=lambda: self._denied)
            warm(
                runner,
                [(self._adapters[method], message) for method, message in loading.requests],
                self._limits,
            )
            return runner
        except SnapshotRefused as error:
            return LoadingFailed(
                SnapshotRefused(str(error)), isinstance(error.__cause__, OSError | MemoryError)
            )
        except Exception as error:
            log_failure(f"surface {loading.surface}: {loading.folder} could not be loaded", error)
            text = f"{type(error).__qualname__}: {error}"
            return LoadingFailed(RuntimeError(text), isinstance(error, OSError | MemoryError))

    def _work(self, runner: Runner, connection: Connection) -> None:
        """Answers requests until the server closes the connection."""
        start = connection.recv()
        be_nicer(start.nice)
        if start.warming:
            # A worker's first requests copy the memory pages that they write to.
            warming = threading.Thread(
                target=self._warm_worker, args=(runner, start), name="meshfold-warming"
            )
            warming.start()
            warming.join()
            connection.send(None)
        while True:
            match connection.recv():
                case WorkerRequest() as request:
                    connection.send(self.answer(runner, request, start.slot))
                case HoldsRequest(item_ids):
                    connection.send(runner.holds(item_ids))

    def _warm_worker(self, runner: Runner, start: WorkerStart) -> None:
        be_nicer(start.warming_nice)
        torch.set_num_threads(1)
        for method, message in start.warming:
            # The load has logged what it refuses.
            with suppress(MeshfoldError):
                run_alone(Work(self._adapters[method], runner, self._limits), message)

    def answer(self, runner: Runner, request: WorkerRequest, slot: int) -> bytes | Exception | None:
        """Returns the bytes of the answer, the error that it ended with, or None where it was abandoned."""
        if request.denied is not None:
            self._denied = request.denied
        if torch.get_num_threads() != request.threads:
            torch.set_num_threads(request.threads)
        try:
            with abandoned_when(lambda: self._abandoned.is_abandoned(slot, request.number)):
                work = Work(self._adapters[request.method], runner, self._limits)
                return run_alone(work, request.message, _with_user(work.adapter, request))
        except Abandoned:
            return None
        except MeshfoldError as error:
            return _portable(error)
        except Exception as error:
            log_failure("a request failed", error)
            return RuntimeError(f"{type(error).__qualname__} in a worker; its log says where")


def _portable(error: MeshfoldError) -> Exception:
    """The error as the server can read it: a class of an adapter's own may not survive the way there, and stands for
    the class of ours that it extends."""
    known = next(kind for kind in type(error).__mro__ if kind.__module__.startswith("meshfold."))
    if type(error) is known:
        return error
    if isinstance(error, InvalidQuery):
        return InvalidQuery(error.path, error.message)
    return cast(Exception, known(str(error)))


def _with_user(adapter: Adapter[Any, Any], request: WorkerRequest) -> Query | None:
    """The query with the user that the server filled in; None where it filled in none. Raises InvalidQuery."""
    if request.user is None:
        return None
    query: Query = adapter.decode(request.message)
    return replace(query, history=request.user.history, features=request.user.features)
