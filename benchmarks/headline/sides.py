"""The two sides as processes: `meshfold mesh up` and `meshfold serve` over copies of one snapshot."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.headline.processes import ProcessTree, Spent
from benchmarks.load.server import Process, free_addresses, serving
from meshfold.tools.bench_target import Target

MESH, MODEL = "mesh", "model"
# A mesh builds its index at its first start.
READY_S = 1800.0
# What a server that was held needs to notice that it runs again.
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


@contextmanager
def mesh(store: Path, home: Path, flags: Sequence[str] = (), address_of: str = MESH) -> Iterator[Side]:
    """The mesh over a copy of the store, so that no page of memory is shared with the model.

    home: where copies, indices and logs are kept. flags: of `mesh up`.
    """
    copy = home / f"copy-{store.name}"
    if not copy.exists():
        partial = home / f".copy-{store.name}"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(store, partial)
        partial.rename(copy)
    (address,) = free_addresses(1)
    words = ["mesh", "up", "--store", copy, "--address", address, "--indices", home / "indices"]
    words += ["--wait", f"{READY_S:g}", *flags]
    with _side(address_of, words, address, home / f"{address_of}.log") as side:
        yield side


@contextmanager
def model(store: Path, home: Path, flags: Sequence[str] = ()) -> Iterator[Side]:
    """flags: of `serve`."""
    (address,) = free_addresses(1)
    words = ["serve", "--store", store, "--address", address, "--admin-address", "none", *flags]
    with _side(MODEL, words, address, home / f"{MODEL}.log") as side:
        yield side


@contextmanager
def both(
    store: Path, home: Path, mesh_flags: Sequence[str], model_flags: Sequence[str] = ()
) -> Iterator[dict[str, Side]]:
    """Both sides, held; by name."""
    with ExitStack() as stack:
        sides = {}
        for side in (mesh(store, home, mesh_flags), model(store, home, model_flags)):
            started = stack.enter_context(side)
            started.tree.stop()
            sides[started.name] = started
        yield sides


@contextmanager
def _side(name: str, words: Sequence[str | Path], address: str, log: Path) -> Iterator[Side]:
    with Process(["-P", "-m", "meshfold.commands", *words], log) as process:
        end_s = time.monotonic() + READY_S
        while not serving(address, 1.0):
            if process.popen.poll() is not None or time.monotonic() > end_s:
                raise SystemExit(f"{name} did not start; see {log}")
            time.sleep(0.1)
        side = Side(name, address, ProcessTree(process.pid))
        try:
            yield side
        finally:
            side.tree.go_on()
