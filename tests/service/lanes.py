"""Lanes of small jobs, for their tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest

from meshfold.model.errors import Overloaded
from meshfold.service import lane as lane_module
from meshfold.service.lane import Lane, LaneLimits
from meshfold.service.service_times import Expected

# Far enough away that no deadline passes and no wait is over the limit by itself.
FAR_S = 1000.0
ROOMY = LaneLimits(requests=1000, bytes=1 << 20, wait_s=FAR_S)


@dataclass(eq=False)
class Job:
    """A number to double. work_s: of it, as expected. within_s: its deadline, from now."""

    number: int
    flow: Hashable = "shop"
    batch: Hashable = None
    work_s: float = 0.0
    most_s: float = 0.0
    within_s: float = FAR_S
    size_bytes: int = 1
    weight: float = 1.0
    wanted: bool = True
    held: Any = None
    answer: Future[int] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.expected = Expected(self.work_s, max(self.work_s, self.most_s))
        self.deadline_s = time.monotonic() + self.within_s

    def is_wanted(self) -> bool:
        return self.wanted

    def fail(self, error: Exception) -> None:
        self.answer.set_exception(error)


class Doubler:
    """Resolves jobs, keeps the batches it ran and by which threads; waits while its gate is closed, and closes it at
    a job of `pauses`."""

    def __init__(self) -> None:
        self.pauses: set[int] = set()
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def run(self, batch: Sequence[Any]) -> None:
        if self.pauses & {job.number for job in batch}:
            self.gate.clear()
        self.entered.set()
        assert self.gate.wait(10)
        self.batches.append([job.number for job in batch])
        self.threads.add(threading.get_ident())
        for job in batch:
            job.answer.set_result(2 * job.number)


class Lanes:
    """Makes lanes that are stopped at the end of a test."""

    def __init__(self) -> None:
        self._made: list[tuple[Lane, Doubler]] = []

    def make(
        self, limits: LaneLimits = ROOMY, workers: int = 1, max_batch: int = 4, **given: Any
    ) -> tuple[Lane, Doubler]:
        doubler = Doubler()
        lane = Lane("test", workers, max_batch, limits, given.pop("run", doubler.run), **given)
        self._made.append((lane, doubler))
        return lane, doubler

    def held(
        self, limits: LaneLimits = ROOMY, work_s: float = 0.0, max_batch: int = 4
    ) -> tuple[Lane, Doubler]:
        """A lane whose one thread is held by a job 0, expected to take work_s, until the gate opens."""
        lane, doubler = self.make(limits, max_batch=max_batch)
        doubler.gate.clear()
        lane.submit(Job(0, flow="held", work_s=work_s))
        assert doubler.entered.wait(10)
        return lane, doubler

    def stop(self) -> None:
        for lane, doubler in self._made:
            doubler.gate.set()
            lane.stop(10)


@pytest.fixture(autouse=True)
def _waits_as_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expected waits are taken as they are. Those that came true, and what is kept in reserve, are tested apart."""
    monkeypatch.setattr(lane_module, "_MOST_CORRECTION", 1.0)
    monkeypatch.setattr(lane_module, "_RESERVE", 0.0)


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes()
    yield lanes
    lanes.stop()


def submitted(lane: Lane, *jobs: Job) -> list[Job]:
    for job in jobs:
        lane.submit(job)
    return list(jobs)


def results(jobs: Sequence[Job]) -> list[int]:
    return [job.answer.result(10) for job in jobs]


def refused(lane: Lane, job: Job) -> Overloaded:
    before = lane.refused
    with pytest.raises(Overloaded) as caught:
        lane.submit(job)
    assert lane.refused == before + 1
    return caught.value
