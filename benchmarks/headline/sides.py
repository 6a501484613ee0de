"""The two sides as processes: `meshfold mesh run` and `meshfold serve` over copies of one snapshot."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.headline.mesh_settings import MeshSettings
from benchmarks.headline.world import MESH_RECALL
from benchmarks.kept import made_whole
from benchmarks.load.server import Process, free_addresses
from benchmarks.process_tree import ProcessTree, Spent
from meshfold.compat.mesh.settings import RETRIEVAL, SCORING, TOWER
from meshfold.tools.bench_target import Target

MESH, MODEL = "mesh", "model"
# A mesh builds its index at its first start.
READY_S = 1800.0
# Seconds for a stopped server to run again.
_AWAKE_S = 1.0


@dataclass
class Side:
    """A server that is held unless it is measured. spent: of what was last sent to a target of it."""

    name: str
    address: str
    tree: ProcessTree
    spent: Spent = field(default_factory=Spent)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.tree.go_on()
        time.sleep(_AWAKE_S)
        try:
            yield
        finally:
            self.tree.stop()

    def target(self, messages: Path, limit_ms: float) -> Target:
        return Target(self.address, messages, limit_ms, watched=self._watched)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        self.spent = Spent()
        with self.tree.watched(self.spent):
            yield


def copied(store: Path, home: Path) -> Path:
    """A copy of the store, made once."""
    return made_whole(home / f"copy-{store.name}", lambda partial: shutil.copytree(store, partial))


@contextmanager
def started(name: str, words: Sequence[str | Path], home: Path) -> Iterator[tuple[str, int]]:
    """The address and the process of a `meshfold` that serves. words: of its command line, less the address."""
    (address,) = free_addresses(1)
    log = home / f"{name.replace(' ', '-')}.log"
    with Process(["-P", "-m", "meshfold.commands", *words, "--address", address], log) as process:
        process.wait_for(address, READY_S)
        try:
            yield address, process.pid
        finally:
            ProcessTree(process.pid).go_on()


def services(
    stack: ExitStack, store: Path, home: Path, settings: MeshSettings, flags: Sequence[str] = ()
) -> dict[str, list[tuple[str, int]]]:
    """Addresses and processes of tower, retrieval and scoring by name, stopped by the stack."""
    made: dict[str, list[tuple[str, int]]] = {}
    for service, replicas in ((TOWER, 1), (RETRIEVAL, settings.replicas), (SCORING, settings.replicas)):
        words: list[str | Path] = ["mesh", "run", service, *of_mesh(store, home), *settings.flags(), *flags]
        made[service] = [
            stack.enter_context(started(f"{service}-{place}", words, home)) for place in range(replicas)
        ]
    return made


def of_mesh(store: Path, home: Path) -> list[str | Path]:
    """The flags that all services of a mesh have."""
    return ["--store", copied(store, home), "--indices", home / "indices", f"--recall={MESH_RECALL}"]


@contextmanager
def mesh(
    store: Path, home: Path, settings: MeshSettings, flags: Sequence[str] = (), name: str = MESH
) -> Iterator[Side]:
    """The mesh over a copy of the store, so that no page of memory is shared with the model.

    home: where copies, indices and logs are kept. flags: of `mesh run`.
    """
    with ExitStack() as stack:
        behind = services(stack, store, home, settings, flags)
        words = ["mesh", "run", "orchestrator", *of_mesh(store, home), *flags]
        words += [f"--{service}={address_of(replicas)}" for service, replicas in behind.items()]
        address, pid = stack.enter_context(started(name, words, home))
        pids = [pid, *(pid for replicas in behind.values() for _, pid in replicas)]
        yield Side(name, address, ProcessTree(*pids))


def address_of(replicas: Sequence[tuple[str, int]]) -> str:
    """The address of replicas, in the form of an orchestrator's flags."""
    addresses = [address for address, _ in replicas]
    return addresses[0] if len(addresses) == 1 else f"ipv4:{','.join(addresses)}"


@contextmanager
def model(store: Path, home: Path, flags: Sequence[str] = ()) -> Iterator[Side]:
    """flags: of `serve`."""
    words: list[str | Path] = ["serve", "--store", store, "--admin-address", "none", *flags]
    with started(MODEL, words, home) as (address, pid):
        yield Side(MODEL, address, ProcessTree(pid))


@contextmanager
def both(store: Path, home: Path, settings: MeshSettings) -> Iterator[dict[str, Side]]:
    """Both sides, held; by name."""
    with ExitStack() as stack:
        sides = {}
        for side in (mesh(store, home, settings), model(store, home)):
            of_name = stack.enter_context(side)
            of_name.tree.stop()
            stack.callback(of_name.tree.go_on)
            sides[of_name.name] = of_name
        yield sides
