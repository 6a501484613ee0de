"""Requests are answered by processes that share what one of them loaded."""

from __future__ import annotations

import fcntl
import io
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.csv
import pytest

import meshfold
from meshfold.compat import meshfold_v1
from meshfold.compat.client import Client, decode_response, encode_request
from meshfold.model.errors import (
    InvalidQuery,
    MeshfoldError,
    Overloaded,
    SnapshotRefused,
    Unavailable,
    UnknownName,
)
from meshfold.model.filter.expression import Not, Range
from meshfold.model.limits import Limits
from meshfold.model.types import Query
from meshfold.service.computing import InProcesses
from meshfold.service.config import ServerConfig
from meshfold.service.fork_server import ForkServer
from meshfold.service.remote_runner import RemoteRunner
from meshfold.service.runner import Runner
from meshfold.service.server import Server
from meshfold.service.snapshot_process import AbandonedNumbers, Loading, SnapshotProcess, WorkerRequest
from meshfold.service.work import Work, run_alone
from tests.service.conftest import Publish
from tests.waiting import wait_until

METHOD = meshfold_v1.METHOD
GOOD = encode_request(Query("shop", 20, history=np.array([10, 20, 30])))


class DeniedIds:
    def __init__(self) -> None:
        self.now: tuple[str, ...] = ()

    def __call__(self) -> tuple[str, ...]:
        return self.now


class World:
    """A fork server and what it opens."""

    def __init__(self) -> None:
        self._abandoned = AbandonedNumbers()
        self.processes = ForkServer(SnapshotProcess([meshfold_v1], Limits(), self._abandoned).serve)
        self.denied = DeniedIds()

    def open(
        self,
        folder: Path,
        surface: str = "shop",
        workers: int = 1,
        warming: Sequence[tuple[str, bytes]] = (),
    ) -> RemoteRunner:
        loading = Loading(folder, surface, self.denied(), [(METHOD, GOOD)], 1, 0)
        runner = RemoteRunner(self.processes, self._abandoned, loading, self.denied)
        before = len(descendants(self.processes.pid))
        runner.start(workers, warming, 1)
        wait_until(lambda: len(descendants(self.processes.pid)) == before + workers)
        return runner


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.processes.close()


@pytest.fixture
def folder(store: Path) -> Path:
    (folder,) = (store / "shop").iterdir()
    return folder


def descendants(pid: int) -> list[int]:
    """Processes below a process, parents first."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    tree = [pid]
    for parent in tree:
        tree += [child for child, of in parents.items() if of == parent]
    return tree[1:]


def alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_process_gives_the_bytes_that_a_runner_in_this_process_gives(world: World, folder: Path) -> None:
    here, there = Work(meshfold_v1, Runner.open(folder, "shop"), Limits()), world.open(folder)
    assert (there.version, there.items, there.candidates) == (
        here.runner.version,
        here.runner.items,
        here.runner.candidates,
    )
    for i in range(12):
        query = Query(
            "shop", 1 + 13 * i, history=np.arange(10, 10 + i), filter=Not(Range("year", 1950, 1950.0 + 9 * i))
        )
        expected = run_alone(here, encode_request(query))
        for threads in (1, 2):
            assert there.answer(METHOD, encode_request(query), threads=threads) == expected
        # As where the server filled the user in.
        assert there.answer(METHOD, _without_user(query), query.user) == expected
        assert there.answer(METHOD, encode_request(query), background=True) == expected


def test_workers_that_warmed_up_answer_as_others_do(world: World, folder: Path) -> None:
    expected = world.open(folder).answer(METHOD, GOOD)
    # The snapshot refuses the second.
    warming = [(METHOD, GOOD), (METHOD, encode_request(Query("shop", 5, fields=("tilte",)))), (METHOD, GOOD)]
    runner = world.open(folder, workers=2, warming=warming)
    for _ in range(4):
        assert runner.answer(METHOD, GOOD) == expected


def test_errors_come_as_they_were_raised(world: World, folder: Path) -> None:
    runner = world.open(folder)
    with pytest.raises(InvalidQuery) as caught:
        runner.answer(METHOD, encode_request(Query("shop", 5, fields=("tilte",))))
    assert (caught.value.path, "title" in caught.value.message) == ("fields[0]", True)
    with pytest.raises(UnknownName, match="did you mean 'weighted'"):
        runner.answer(METHOD, encode_request(Query("shop", 5, value_formula="wieghted")))
    assert runner.answer(METHOD, GOOD)


@pytest.mark.parametrize("kind", [InvalidQuery, Overloaded, UnknownName])
def test_an_adapters_own_errors_come_as_the_known_errors_that_they_are(
    folder: Path, kind: type[MeshfoldError]
) -> None:
    class OwnError(kind):  # type: ignore[misc,valid-type]
        def __init__(self, code: int, place: str) -> None:
            super().__init__(
                *((place, f"code {code}") if kind is InvalidQuery else (f"{place}: code {code}",))
            )

    class Failing:
        METHOD = METHOD

        def decode(self, message: bytes) -> Query:
            raise OwnError(3, "user")

    worker = SnapshotProcess([cast(Any, Failing())], Limits(), AbandonedNumbers())
    reply = worker.answer(Runner.open(folder, "shop"), WorkerRequest(1, METHOD, GOOD, None, None, 1), 0)
    worker_end, server_end = Pipe()
    with worker_end, server_end:
        worker_end.send(reply)
        sent = server_end.recv()
    assert (type(sent), str(sent)) == (kind, "user: code 3")


def test_what_nobody_waits_for_is_not_computed(world: World, folder: Path) -> None:
    runner = world.open(folder)
    assert runner.answer(METHOD, GOOD, started=lambda abandon: abandon()) is None
    assert runner.answer(METHOD, GOOD)


def test_denied_items_are_so_from_the_next_request_on(world: World, folder: Path) -> None:
    runner = world.open(folder, workers=2)
    query = Query("shop", 400)
    before = _ids(runner.answer(METHOD, encode_request(query)))
    world.denied.now = ("10", "77")
    for background in (False, True):
        after = _ids(runner.answer(METHOD, encode_request(query), background=background))
        assert before - after == {10, 77}
    assert runner.holds(["10", "9"]) == [True, False]
    world.denied.now = ()
    assert _ids(runner.answer(METHOD, encode_request(query))) == before


def test_a_worker_that_ends_costs_the_request_that_it_had(world: World, folder: Path) -> None:
    runner = world.open(folder)
    snapshot, worker = descendants(world.processes.pid)
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(Unavailable, match="try again"):
        runner.answer(METHOD, GOOD)
    assert runner.answer(METHOD, GOOD)
    assert not runner.is_broken
    os.kill(snapshot, signal.SIGKILL)
    assert runner.answer(METHOD, GOOD)

    def is_broken() -> bool:
        with pytest.raises(Unavailable, match="try again"):
            runner.answer(METHOD, GOOD, background=True)
        return runner.is_broken

    wait_until(is_broken)


def test_processes_end_with_what_they_are_of(world: World, folder: Path) -> None:
    first, second = world.open(folder, workers=2), world.open(folder)
    pids = descendants(world.processes.pid)
    assert len(pids) == 2 + 2 + 1
    del first
    wait_until(lambda: sum(map(alive, pids)) == 2)
    assert second.answer(METHOD, GOOD)
    second.close()
    world.processes.close()
    wait_until(lambda: not any(map(alive, [*pids, world.processes.pid])))


def test_what_the_server_has_open_is_not_open_in_its_processes(folder: Path, tmp_path: Path) -> None:
    # Arrow reopens its pipe for signals in every forked process, and aborts where it cannot.
    pyarrow.csv.read_csv(io.BytesIO(b"a\n1\n"))
    ours, theirs = socket.socketpair()
    from_pipe, to_pipe = os.pipe()
    with theirs, open(tmp_path / "locked", "wb") as locked, open(from_pipe, "rb") as read:
        fcntl.flock(locked, fcntl.LOCK_EX)
        world = World()
        try:
            assert world.open(folder).answer(METHOD, GOOD)
            ours.close()
            assert theirs.recv(1) == b""
            os.close(to_pipe)
            assert read.read() == b""
            locked.close()
            with open(tmp_path / "locked", "wb") as again:
                fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            world.processes.close()


def test_a_snapshot_that_is_refused_is_told_and_leaves_no_process(
    world: World, tmp_path: Path, publish_items: Publish
) -> None:
    folder = publish_items(tmp_path)
    with pytest.raises(SnapshotRefused, match="shop"):
        world.open(folder, "other")
    (folder / "index.safetensors").write_bytes(b"")
    with pytest.raises(SnapshotRefused, match=re.escape(str(folder))):
        world.open(folder)
    wait_until(lambda: not [pid for pid in descendants(world.processes.pid) if alive(pid)])


def test_workers_hold_the_index_once(world: World, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40_000, 64)).astype(np.float32)
    folder = meshfold.build({"item_id": np.arange(40_000)}, vectors, store=tmp_path)
    runner = world.open(folder, "items", workers=2)
    for i in range(2):
        # One of them is busy.
        runner.answer(METHOD, encode_request(Query("items", 100, history=np.arange(i, 10))))
    index_kb = 2 * 40_000 * 64 // 1024
    processes = descendants(world.processes.pid)
    held = [_largest_memory(pid) for pid in processes]
    assert len(held) == 3
    for size_kb, proportional_kb, private_kb in held:
        assert size_kb >= index_kb
        assert proportional_kb <= size_kb / 2
        assert private_kb < index_kb / 4


def test_a_server_loads_again_what_ended(start: Callable[..., Server], store: Path) -> None:
    server = start(store)
    with Client(server.address) as client:
        version = client.retrieve(Query("shop", 5)).version
        assert isinstance(server._computing, InProcesses)
        for pid in descendants(server._computing._processes.pid):
            os.kill(pid, signal.SIGKILL)

        def answered() -> bool:
            try:
                return client.retrieve(Query("shop", 5)).version == version
            except Exception:
                return False

        wait_until(answered)


def test_a_server_that_can_start_no_process_ends_when_it_needs_one(
    tmp_path: Path, publish_items: Publish
) -> None:
    publish_items(tmp_path)
    server = Server(ServerConfig(address="127.0.0.1:0", store=tmp_path), [meshfold_v1])
    failed = threading.Event()
    server.start(failed.set)
    try:
        assert isinstance(server._computing, InProcesses)
        os.kill(server._computing._processes.pid, signal.SIGKILL)
        with Client(server.address) as client:
            # What is loaded still answers.
            assert client.retrieve(Query("shop", 5)).version
            assert not failed.is_set()
            publish_items(tmp_path, seed=1)
            assert failed.wait(60)
            assert client.retrieve(Query("shop", 5)).version
    finally:
        server.stop()


def _without_user(query: Query) -> bytes:
    return encode_request(replace(query, history=np.empty(0, np.int64)))


def _largest_memory(pid: int) -> tuple[int, int, int]:
    """(kB that are resident, this process's part of them, its own) of the largest memory that is of no file."""
    found = re.findall(
        r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ 0 *\n((?:[A-Z]\w+:.*\n)+)",
        Path(f"/proc/{pid}/smaps").read_text(),
        re.M,
    )
    sizes = [{name: int(kb) for name, kb in re.findall(r"(\w+): +(\d+) kB", block)} for block in found]
    most = max(sizes, key=lambda size: size["Rss"])
    return most["Rss"], most["Pss"], most["Private_Dirty"]


def _ids(message: bytes | None) -> set[int]:
    assert message is not None
    return {int(item) for item in decode_response(message).item_ids}
