"""A generated catalog as snapshots of two surfaces, made once and kept, and requests for them.

python -m benchmarks.load.world --work build/load --items 20000
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.arguments import arguments
from benchmarks.kept import made_once
from benchmarks.mesh.traffic import traffic
from benchmarks.processes import command
from meshfold.commands import console
from meshfold.compat.filters import encode_filter
from meshfold.model.filter.text import parse_filter
from meshfold.model.store import Store
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.tools.bench_calls import write_messages

# Surfaces and their folders: the attacked or loaded surface, and that of the well-behaved caller.
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
        """Generates and builds once."""
        made_once(self.home, self._build)

    def _build(self) -> None:
        sizes = {"items": self.items, "dimension": self.dimension, "users": self.items // 10}
        flags = [f"--{name}={size}" for name, size in sizes.items()]
        command("data", "generated", *flags, "--out", self.data / ATTACKED)
        shutil.copytree(self.data / ATTACKED, self.data / OTHER)
        for surface in (ATTACKED, OTHER):
            schema = self.data / surface / "schema.toml"
            text = schema.read_text("utf-8")
            schema.write_text(text.replace('surface = "generated"', f'surface = "{surface}"', 1), "utf-8")
            command("build", self.data / surface, "--store", self.store)

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
        """Builds once for a number of items."""
        made_once(self.home, self._build, f"made-{self.items}")

    def _build(self) -> None:
        from benchmarks.forward import snapshot_of

        with console.progress() as progress:
            snapshot_of(self.home, self.items, 128, progress)

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


def main() -> None:
    parser = arguments(__doc__, work="build/load", items=20_000)
    args = parser.parse_args()
    World(args.work, items=args.items).make()


if __name__ == "__main__":
    main()
