"""Where the processor time of a request goes: the code of both sides in one thread, stage by stage.

    python -m benchmarks.headline.stages STORE MESSAGES INDICES

Prints a JSON object of both sides: ms by stage, means over requests, on the clock of the thread. Messages between the
services of the mesh are made and read as bytes, as the services do; only gRPC and the threads between are not there.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.forward import model_of, timed
from benchmarks.headline.catalog import SURFACE
from meshfold.compat.mesh import nearest, orchestrator
from meshfold.compat.mesh.part import IsActive, Part, Request, Response
from meshfold.compat.mesh.retrieval import Retrieval
from meshfold.compat.mesh.scoring import Scoring
from meshfold.compat.mesh.tower import Tower
from meshfold.compat.mesh_v1 import embed, retrieve, score, search
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.protos.mesh.v1 import retrieval_pb2, scoring_pb2, user_tower_pb2
from meshfold.service.runner import Runner
from meshfold.service.work import Adapter
from meshfold.tools.bench_generator import read_messages

# In the order of a request. OVER_ARCH: with the vectors that it reads and the value formula.
TOWER, SEARCH, OVER_ARCH, ORDER, MESSAGES = "tower", "search", "over_arch", "order", "messages"
REQUESTS, _WARM = 200, 20
_OF_FORWARD = {
    "user_tower": TOWER,
    "quantise": SEARCH,
    "search": SEARCH,
    "over_arch": OVER_ARCH,
    "value": OVER_ARCH,
}

Result = TypeVar("Result")
Query = TypeVar("Query")
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")


class Times:
    """Seconds of this thread by stage, each stage less those within it."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = defaultdict(float)
        self._within = [0.0]

    def note(self, stage: str, call: Callable[..., Result], *args: Any) -> Result:
        start_s = time.thread_time()
        self._within.append(0.0)
        result = call(*args)
        spent_s = time.thread_time() - start_s
        self.taken[stage] += spent_s - self._within.pop()
        self._within[-1] += spent_s
        return result


class _Service(Part[Request, Response]):
    """A service of the mesh without a server: what the orchestrator asks, from message to message."""

    def __init__(
        self,
        times: Times,
        stage: str,
        adapter: Adapter[Query, Answer],
        prepare: Callable[[Query], Prepared],
        run: Callable[[Sequence[Prepared]], Sequence[Answer]],
        response: type[Response],
    ) -> None:
        def answered(message: bytes) -> bytes:
            query = times.note(MESSAGES, adapter.decode, message)
            prepared = times.note(stage, prepare, query)
            (answer,) = times.note(stage, run, [prepared])
            return times.note(MESSAGES, adapter.encode, query, answer)

        self._times, self._answered, self._response = times, answered, response

    def __call__(self, request: Request, deadline_s: float, is_active: IsActive) -> Response:
        message: bytes = self._times.note(MESSAGES, request.SerializeToString)
        response: Response = self._times.note(MESSAGES, self._response.FromString, self._answered(message))
        return response


class _Parts(orchestrator.Parts):
    """The services behind an orchestrator, in this thread."""

    def __init__(self, folder: Path, indices: Path, times: Times) -> None:
        tower, scoring = Tower.open(folder, SURFACE), Scoring.open(folder, SURFACE)
        found = Retrieval.open(folder, SURFACE, indices, 0, exact=False)
        self.embed = _Service(
            times, TOWER, embed, tower.prepare_embed, tower.embed, user_tower_pb2.EmbedResponse
        )
        self.search = _Service(
            times, SEARCH, search, found.prepare_search, found.search, retrieval_pb2.SearchResponse
        )
        self.score = _Service(
            times, OVER_ARCH, score, scoring.prepare_score, scoring.score, scoring_pb2.ScoreResponse
        )


def of_mesh(folder: Path, indices: Path, messages: list[bytes]) -> dict[str, float]:
    """ms by stage."""
    times = Times()
    parts = _Parts(folder, indices, times)
    of_surface = orchestrator.Orchestrator(Snapshot.open(folder, SURFACE), parts, 0)
    encode = retrieve.encode
    # The one message that the orchestrator itself makes.
    setattr(retrieve, "encode", lambda *args: times.note(MESSAGES, encode, *args))  # noqa: B010
    try:
        for number, message in enumerate(messages):
            if number == _WARM:
                times.taken.clear()
            asked = times.note(MESSAGES, orchestrator.decode, message)
            times.note(ORDER, of_surface.retrieve, asked, float("inf"), lambda: True)
    finally:
        setattr(retrieve, "encode", encode)  # noqa: B010
    return _ms(times, len(messages) - _WARM)


def of_model(folder: Path, messages: list[bytes]) -> dict[str, float]:
    """ms by stage."""
    runner, times = Runner.open(folder, SURFACE), Times()
    stages: dict[str, list[float]] = defaultdict(list)
    with timed(model_of(runner), stages, time.thread_time):
        for number, message in enumerate(messages):
            if number == _WARM:
                times.taken.clear()
                stages.clear()
            query = times.note(MESSAGES, retrieve.decode, message)
            prepared = times.note(ORDER, runner.prepare, query)
            (answer,) = times.note(ORDER, runner.run, [prepared])
            times.note(MESSAGES, retrieve.encode, query, answer)
    for name, taken in stages.items():
        if name in _OF_FORWARD:
            times.taken[_OF_FORWARD[name]] += sum(taken)
            times.taken[ORDER] -= sum(taken)
    return _ms(times, len(messages) - _WARM)


def _ms(times: Times, requests: int) -> dict[str, float]:
    return {stage: 1000 * taken / requests for stage, taken in times.taken.items()}


def main() -> None:
    store, indices = Path(sys.argv[1]), Path(sys.argv[3])
    messages = read_messages(Path(sys.argv[2]))[: REQUESTS + _WARM]
    folder = Store(store).published(SURFACE)[0]
    nearest.use_threads(1)
    torch.set_num_threads(1)
    print(json.dumps({"mesh": of_mesh(folder, indices, messages), "model": of_model(folder, messages)}))


if __name__ == "__main__":
    main()
