"""docs/architecture.md lists the files that a request and a build enter: traced here, one of each."""

from __future__ import annotations

import itertools
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.commands.__main__ import ADAPTERS, main
from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.migration.front import Front
from meshfold.compat.migration.modes import Kind
from meshfold.model.limits import Limits
from meshfold.model.store import Store
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.config import ServerConfig
from meshfold.service.migration import MigrationConfig
from meshfold.service.runner import Runner
from meshfold.service.server import Server
from meshfold.service.snapshot_process import AbandonedNumbers, SnapshotProcess, WorkerRequest
from tests.compat.migration.conftest import ToldMesh, mesh
from tests.service.conftest import build_shop

__all__ = ["build_shop", "mesh"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
ROOMS = ("api", "commands", "compat", "kernels", "model", "service", "tools")


class Trace:
    """Files of this project whose functions are called while it is on, in threads that start after it was made."""

    def __init__(self) -> None:
        # In the order in which they are entered.
        self.entered: dict[str, None] = {}
        self._on = False
        self._ours: dict[str, str] = {}

    def profile(self, frame: Any, event: str, _: Any) -> None:
        if self._on and event == "call" and frame.f_code.co_name != "<module>":
            name = frame.f_code.co_filename
            if name not in self._ours:
                path = Path(name).resolve()
                is_ours = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ROOMS
                self._ours[name] = path.relative_to(ROOT).as_posix() if is_ours else ""
            if ours := self._ours[name]:
                self.entered.setdefault(ours)

    @contextmanager
    def on(self) -> Iterator[None]:
        self._on = True
        try:
            yield
        finally:
            self._on = False


@pytest.fixture(scope="module")
def shop(build_shop: Callable[..., Path]) -> Path:
    """A store of a surface with a user tower and an OverArch."""
    return build_shop(user_tower="User", over_arch="Rank").parent.parent


@pytest.fixture
def trace() -> Iterator[Trace]:
    trace = Trace()
    threading.setprofile(trace.profile)
    yield trace
    threading.setprofile(None)


def check(title: str, entered: Iterable[str]) -> None:
    """Compares files with those in the block of the page below a title. A name without a folder is in that of the one
    before it; a folder stands for any of its files."""
    found = re.search(rf"^### {title}$.*?^```$(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"{PAGE} has no block below {title!r}"
    room, files, folders = "", set(), set()
    for name in re.findall(r"[\w/]+\.py\b|\b[\w/]+/(?=[\s,])", found[1]):
        if name.endswith("/"):
            folders.add(name)
            continue
        room = name.rpartition("/")[0] or room
        files.add(name if "/" in name else f"{room}/{name}")
    met = {folder: {file for file in entered if file.startswith(folder)} for folder in folders}
    assert all(met.values()), f"{title}: the page lists folders of which no file is entered: {met}"
    assert set(entered).difference(*met.values()) == files, f"{title}: the page and the trace differ"


def rooms(files: Iterable[str]) -> Counter[str]:
    return Counter(file.partition("/")[0] for file in files)


def request() -> bytes:
    wanted = pb.RetrieveRequest(surface="shop", max_results=10, value_formula="mixed")
    wanted.user.user_id = 7
    wanted.user.history.extend((5, 8, 11))
    wanted.filter.match.field = "language"
    wanted.filter.match.strings.append("en")
    message: bytes = wanted.SerializeToString()
    return message


def ask(server: Server, trace: Trace) -> bytes:
    """The answer to a request, traced after everything was loaded by earlier ones."""
    ways: list[list[str]] = []
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(METHOD)
        for _ in range(3):
            call(request())
        for _ in range(20):
            # The last of them is over when its worker has counted it, which is after its answer.
            time.sleep(0.07)
            trace.entered.clear()
            with trace.on():
                answer: bytes = call(request())
            ways.append([*trace.entered])
    # What the server does from time to time falls into one call or another, not into all.
    trace.entered = dict.fromkeys(file for file in ways[0] if all(file in way for way in ways))
    return answer


def as_a_worker(trace: Trace, store: Path) -> bytes:
    """The answer to the same request as a worker's process computes it, traced on a thread of this one."""
    (folder,) = Store(store).published("shop")
    worker, runner = SnapshotProcess(ADAPTERS, Limits(), AbandonedNumbers()), Runner.open(folder, "shop")
    answers: list[Any] = []

    def work() -> None:
        for number in range(1, 4):
            asked = WorkerRequest(number, METHOD, request(), None, None, 1)
            if number == 3:
                with trace.on():
                    answers.append(worker.answer(runner, asked, 0))
            else:
                worker.answer(runner, asked, 0)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    message: bytes = answers[0]
    return message


def test_a_retrieve_enters_the_files_on_the_page(trace: Trace, shop: Path) -> None:
    server = Server(ServerConfig(address="127.0.0.1:0", store=shop), ADAPTERS)
    server.start()
    try:
        answer = ask(server, trace)
    finally:
        server.stop()
    assert as_a_worker(trace, shop) == answer
    assert len(pb.RetrieveResponse.FromString(answer).candidates) == 10
    check("Retrieve", trace.entered)
    entered = rooms(trace.entered)
    # What a reader follows besides the model's own parts and its kernels.
    assert entered["service"] + entered["compat"] <= 27


@pytest.mark.parametrize(
    ("kind", "title"), [(Kind.MESH, "Retrieve by the mesh"), (Kind.ONLY, "Retrieve by the model")]
)
def test_a_proxied_retrieve_enters_the_files_on_the_page(
    trace: Trace, mesh: ToldMesh, shop: Path, tmp_path: Path, kind: Kind, title: str
) -> None:
    config = ServerConfig(
        address="127.0.0.1:0",
        mesh=mesh.address,
        store=shop,
        migration=MigrationConfig(state=str(tmp_path / "modes.json")),
    )
    server = Server(config, ADAPTERS, Front)
    server.start()
    try:
        client = MigrationClient(server.admin_address)
        client.set("shop", kind.value, 0, "a test", "to trace it")
        client.close()
        answer = ask(server, trace)
    finally:
        server.stop()
    assert (answer == b"mesh " + request()) == (kind is Kind.MESH)
    before = [*itertools.takewhile(lambda file: file != "service/handlers.py", trace.entered)]
    check(title, before)
    if kind is Kind.ONLY:
        assert len(before) <= 12


def test_a_build_enters_the_files_on_the_page(trace: Trace, tmp_path: Path) -> None:
    data, store = tmp_path / "data", tmp_path / "store"
    invented = ["data", "generated", "--items=500", "--dimension=16", "--users=50", f"--out={data}"]
    assert main(invented) == 0
    sys.setprofile(trace.profile)
    try:
        with trace.on():
            assert main(["build", str(data), f"--store={store}"]) == 0
    finally:
        sys.setprofile(None)
    # Every command adds its flags to the command line.
    check("Build", [file for file in trace.entered if not file.startswith(("commands/", "compat/"))])
