"""Versions that answer differently, requests for them, and what each version answers offline, whatever is denied."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import meshfold
from benchmarks.kept import made_once
from meshfold.compat import meshfold_v1
from meshfold.model.limits import Limits
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.protos.meshfold.v1 import retrieval_pb2 as pb
from meshfold.service.runner import Runner
from meshfold.service.work import Work, run_alone

SURFACE = "items"
VERSIONS, REQUESTS, RESULTS = 4, 60, 20


@dataclass(frozen=True)
class SwapWorld:
    """home: where versions are kept, built once."""

    home: Path
    items: int = 10_000
    dimension: int = 32

    def make(self) -> None:
        """Builds once for a size."""
        made_once(self.home, self._build, f"made-{self.items}x{self.dimension}")

    def _build(self) -> None:
        for seed in range(VERSIONS):
            rng = np.random.default_rng(seed)
            items = {
                "item_id": np.arange(self.items),
                "year": rng.integers(1980, 2026, self.items),
            }
            vectors = rng.standard_normal((self.items, self.dimension)).astype(np.float32)
            meshfold.build(items, vectors, store=str(self.home / f"store-{seed}"), surface=SURFACE)

    @cached_property
    def folders(self) -> list[Path]:
        """A snapshot a version."""
        return [Store(self.home / f"store-{seed}").published(SURFACE)[0] for seed in range(VERSIONS)]

    @cached_property
    def versions(self) -> list[str]:
        return [Snapshot.open(folder).version for folder in self.folders]

    @cached_property
    def messages(self) -> list[bytes]:
        """Users with ten items, every second with a filter."""
        rng = np.random.default_rng(99)
        made = []
        for number in range(REQUESTS):
            request = pb.RetrieveRequest(
                surface=SURFACE, max_results=RESULTS, history=rng.integers(0, self.items, 10).tolist()
            )
            if number % 2:
                request.filter.range.field, request.filter.range.min = "year", 2000.0
            made.append(request.SerializeToString())
        return made

    def publish(self, store: Store, version: int) -> Path:
        """Another folder of the version, the newest of the store."""
        source = self.folders[version]
        with store.partial(SURFACE) as partial:
            for file in source.iterdir():
                shutil.copy(file, partial)
            return store.publish(SURFACE, partial, self.versions[version])

    def offline(self, denied: Sequence[str]) -> list[list[bytes]]:
        """[version][request]: the bytes of the answer while items are denied."""
        held = tuple(denied)
        answers = []
        for folder in self.folders:
            work = Work(meshfold_v1, Runner.open(folder, SURFACE, denied=lambda: held), Limits())
            answers.append([run_alone(work, message) for message in self.messages])
        return answers

    def frequent(self, answers: Sequence[Sequence[bytes]], count: int) -> list[str]:
        """The items that most answers have."""
        return [str(item) for item, _ in Counter(_ids(answers)).most_common(count)]


def _ids(answers: Sequence[Sequence[bytes]]) -> Iterator[int]:
    for of_version in answers:
        for answer in of_version:
            yield from pb.RetrieveResponse.FromString(answer).item_ids
