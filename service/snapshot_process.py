"""Processes of one snapshot: the first loads it, and forks workers, which share its memory and answer requests.

A worker computes on one thread: as many workers as there are cores give more answers a second than threads that share
Python's lock, or a pass that is spread over cores. No page of the index is held twice: what the first process loaded
is nobody's to change.
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
from typing import Any

import torch

from meshfold.model.errors import MeshfoldError, SnapshotRefused
from meshfold.model.limits import Limits
from meshfold.model.schema import Schema
from meshfold.model.stages import Abandoned, abandoned_when
from meshfold.model.types import Query, User
from meshfold.service import collector
from meshfold.service.errors import log_failure
from meshfold.service.fork_server import fork_on_request, wait_for
from meshfold.service.runner import Runner
from meshfold.service.warming import warm
from meshfold.service.work import Adapter, Work, run_alone

# Requests at a time that can be abandoned while a process computes them, of all processes.
_SLOTS = 1 << 14
_NUMBER = struct.Struct("<Q")


class AbandonedNumbers:
    """Memory that all processes share: in a slot of each worker, the number of the request that nobody waits for."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SLOTS * _NUMBER.size)
        self._free = list(range(_SLOTS))

    def take(self) -> int:
        """A slot. Raises IndexError where all are taken."""
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
    """What to load. denied: ids that no answer has. requests: (method, message) to warm with. threads: that load it.
    nice: of the loading, beyond the server's own."""

    folder: Path
    surface: str
    denied: tuple[str, ...]
    requests: Sequence[tuple[str, bytes]]
    threads: int
    nice: int


@dataclass(frozen=True)
class Facts:
    """Of a loaded snapshot."""

    surface: str
    version: str
    schema: Schema
    items: int
    candidates: int


@dataclass(frozen=True)
class LoadingFailed:
    """may_pass: whether its cause may be gone soon, such as too little memory."""

    error: Exception
    may_pass: bool


@dataclass(frozen=True)
class Beginning:
    """The first message to a worker. slot: of AbandonedNumbers. nice: beyond the server's own."""

    slot: int
    nice: int


@dataclass(frozen=True)
class Asked:
    """A request. number: of this worker's requests, from 1. user: in place of the message's; None where that is as it
    came. denied: the ids that are denied from now on; None where they are as before. threads: for the pass."""

    number: int
    method: str
    message: bytes
    user: User | None
    denied: tuple[str, ...] | None
    threads: int


@dataclass(frozen=True)
class Held:
    """A question: which of the items has the snapshot?"""

    item_ids: Sequence[str]


class SnapshotProcess:
    """What every process of a snapshot does; made before the server forks. adapters: by method."""

    def __init__(
        self, adapters: Sequence[Adapter[Any, Any]], limits: Limits, abandoned: AbandonedNumbers
    ) -> None:
        self._adapters: Mapping[str, Adapter[Any, Any]] = {adapter.METHOD: adapter for adapter in adapters}
        self._limits = limits
        self._abandoned = abandoned
        self._denied: tuple[str, ...] = ()

    def serve(self, connection: Connection) -> None:
        """Loads what the first message says, tells Facts or the error, then forks workers until the server is gone."""
        loaded: list[Runner | LoadingFailed] = []
        loading = connection.recv()
        # On a thread of its own: niceness cannot be taken back, and what a thread has with OpenMP a fork does not copy.
        loader = threading.Thread(target=lambda: loaded.append(self._loaded(loading)), name="meshfold-loader")
        loader.start()
        loader.join()
        (runner,) = loaded
        if isinstance(runner, LoadingFailed):
            connection.send(runner)
            return
        collector.settle()
        # Collections of workers would write to every object, and so copy its page.
        gc.freeze()
        connection.send(Facts(runner.surface, runner.version, runner.schema, runner.items, runner.candidates))
        with socket.socket(fileno=os.dup(connection.fileno())) as control:
            connection.close()
            pids = fork_on_request(control, lambda worker: self._work(runner, worker))
        wait_for(pids)

    def _loaded(self, loading: Loading) -> Runner | LoadingFailed:
        try:
            _be_nicer(loading.nice)
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
        """Answers until the server is gone."""
        beginning = connection.recv()
        _be_nicer(beginning.nice)
        while True:
            match connection.recv():
                case Asked() as asked:
                    connection.send(self.answer(runner, asked, beginning.slot))
                case Held(item_ids):
                    connection.send(runner.holds(item_ids))

    def answer(self, runner: Runner, asked: Asked, slot: int) -> bytes | Exception | None:
        """None where nobody waits for it any more."""
        if asked.denied is not None:
            self._denied = asked.denied
        if torch.get_num_threads() != asked.threads:
            torch.set_num_threads(asked.threads)
        try:
            with abandoned_when(lambda: self._abandoned.is_abandoned(slot, asked.number)):
                work = Work(self._adapters[asked.method], runner, self._limits)
                return run_alone(work, asked.message, _with_user(work.adapter, asked))
        except Abandoned:
            return None
        except MeshfoldError as error:
            return error
        except Exception as error:
            log_failure("a request failed", error)
            return RuntimeError(f"{type(error).__qualname__} in a worker; its log says where")


def _with_user(adapter: Adapter[Any, Any], asked: Asked) -> Query | None:
    """The query with the user that the server filled in; None where it filled in none. Raises InvalidQuery."""
    if asked.user is None:
        return None
    query: Query = adapter.decode(asked.message)
    return replace(query, history=asked.user.history, features=asked.user.features)


def _be_nicer(by: int) -> None:
    if by:
        with suppress(OSError, AttributeError):
            thread = threading.get_native_id()
            before = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, before + by)
