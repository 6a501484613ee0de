"""What load is sent to: a generated catalog as snapshots of two surfaces, made once and kept, and requests for them.

python -m benchmarks.load.world --work build/load --items 20000
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.mesh.traffic import traffic
from benchmarks.processes import MESHFOLD
from meshfold.commands import console
from meshfold.compat.filters import encode_filter
from meshfold.model.filter.text import parse_filter
from meshfold.model.store import Store
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.tools.bench_calls import write_messages

# Of surface and folder: the one that is attacked or loaded, and the one of the well-behaved caller.
ATTACKED, OTHER = "attacked", "other"
REQUESTS = 400


@dataclass(frozen=True)
class World:
    """work: the folder below which worlds are kept. items, dimension: of the catalog. results: that a request for
    ATTACKED asks for."""

    work: Path
    items: int = 20_000
    dimension: int = 64
    results: int = 1000

    @property
    def home(self) -> Path:
        return self.work / f"world-{self.items}x{self.dimension}"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def store(self) -> Path:
        return self.home / "store"

    def make(self) -> None:
        """Generates and builds unless that was done. One that was killed is done again."""
        made = self.home / "made"
        if made.exists():
            return
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        sizes = {"items": self.items, "dimension": self.dimension, "users": self.items // 10}
        flags = [f"--{name}={size}" for name, size in sizes.items()]
        _run("data", "generated", *flags, "--out", self.data / ATTACKED)
        shutil.copytree(self.data / ATTACKED, self.data / OTHER)
        for surface in (ATTACKED, OTHER):
            schema = self.data / surface / "schema.toml"
            text = schema.read_text("utf-8")
            schema.write_text(text.replace('surface = "generated"', f'surface = "{surface}"', 1), "utf-8")
            _run("build", self.data / surface, "--store", self.store)
        made.touch()

    @cached_property
    def heavy(self) -> Path:
        """Messages for ATTACKED: histories, every second with a filter, many results."""
        return self._messages(ATTACKED, self.results)

    @cached_property
    def light(self) -> Path:
        """Messages for OTHER, with a hundred results."""
        return self._messages(OTHER, 100)

    def newest(self, surface: str) -> Path:
        """The folder of the snapshot."""
        return Store(self.store).published(surface)[0]

    def _messages(self, surface: str, results: int) -> Path:
        path = self.home / f"{surface}-{results}.messages"
        if not path.exists():
            requests = traffic(self.data / surface, REQUESTS, results)
            write_messages(path, [request.SerializeToString() for request in requests])
        return path


@dataclass(frozen=True)
class WholeModel:
    """The model of benchmarks/forward.py, with user tower and OverArch, as the only surface.

    Every second request has a filter over three fields.
    """

    home: Path
    items: int
    results: int = 1000

    @property
    def store(self) -> Path:
        return self.home / "store"

    def make(self) -> None:
        """Builds unless that was done with as many items."""
        from benchmarks.forward import snapshot_of

        made = self.home / f"made-{self.items}"
        if made.exists():
            return
        shutil.rmtree(self.home, ignore_errors=True)
        with console.progress() as progress:
            snapshot_of(self.home, self.items, 128, progress)
        made.touch()

    @cached_property
    def heavy(self) -> Path:
        from benchmarks.forward import FILTERS, HISTORY_ITEMS

        path = self.home / f"whole-{self.results}.messages"
        if not path.exists():
            rng = np.random.default_rng(0)
            filter_ = parse_filter(FILTERS["three fields"])
            requests = []
            for number in range(REQUESTS):
                history = rng.integers(0, self.items, HISTORY_ITEMS).tolist()
                request = pb.RetrieveRequest(
                    surface="forward",
                    max_results=self.results,
                    user={"user_id": number + 1, "history": history},
                )
                if number % 2:
                    encode_filter(filter_, request.filter)
                requests.append(request.SerializeToString())
            write_messages(path, requests)
        return path


def _run(*words: str | Path) -> None:
    subprocess.run([*MESHFOLD, *map(str, words)], check=True, stdout=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("build/load"), help="default: %(default)s")
    parser.add_argument("--items", type=int, default=20_000)
    args = parser.parse_args()
    World(args.work, items=args.items).make()


if __name__ == "__main__":
    main()
