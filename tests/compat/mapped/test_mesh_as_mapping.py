"""mesh.v1 as a mapping is what the built-in adapter is, byte for byte."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2

from meshfold.compat.mapped.compile import load
from meshfold.compat.mesh_v1 import retrieve
from meshfold.model.errors import MeshfoldError
from meshfold.model.limits import Limits
from meshfold.model.store import Store
from meshfold.protos.mesh.v1 import orchestrator_pb2, types_pb2
from meshfold.service.runner import Runner
from meshfold.service.work import Work, run_alone
from tests.compat.mapped.conftest import HERE
from tests.compat.random_answers import RandomAnswers
from tests.compat.requests import mutated, retrieve_request

LIMITS = Limits()


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("mapping")
    files = descriptor_pb2.FileDescriptorSet()
    for module in (types_pb2, orchestrator_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    (folder / "mesh_v1.binpb").write_bytes(files.SerializeToString())
    (folder / "mapping.toml").write_bytes((HERE / "mesh_v1.toml").read_bytes())
    (adapter,) = load(folder / "mapping.toml").adapters
    return adapter


@pytest.fixture(scope="module")
def runner(store: Path) -> Runner:
    (folder,) = Store(store).published("shop")
    return Runner.open(folder, "shop")


def request(draw: random.Random) -> bytes:
    made = retrieve_request(draw, filtered=draw.randrange(3) == 0)
    made.surface = draw.choice(("", "shop", "shop", "shop"))
    made.value_formula = ""
    made.task_weights.clear()
    made.max_results = draw.randrange(60)
    made.explain = bool(draw.randrange(2))
    if draw.randrange(2):
        made.user.history[:] = [draw.randrange(10, 410) for _ in range(draw.randrange(6))]
        del made.user.history_keys[:]
        del made.excluded_item_keys[:]
        made.filter.match.field = "language"
        made.filter.match.strings[:] = ["de", "xx"]
    content: bytes = made.SerializeToString()
    return content if draw.randrange(4) else mutated(draw, content)


def outcome(adapter: Any, runner: Runner, message: bytes) -> bytes | str:
    """The answer's bytes, or what is wrong."""
    try:
        adapter.measure(message, LIMITS)
        return run_alone(Work(adapter, runner, LIMITS), message)
    except MeshfoldError as error:
        return type(error).__name__


def compare(mapped: Any, runner: Runner, seed: int, requests: int) -> None:
    draw = random.Random(seed)
    answered = 0
    for _ in range(requests):
        message = request(draw)
        expected = outcome(retrieve, runner, message)
        assert outcome(mapped, runner, message) == expected, message
        answered += isinstance(expected, bytes)
    assert answered > requests / 4


def test_200_requests_have_the_same_bytes(mapped: Any, runner: Runner) -> None:
    compare(mapped, runner, 1, 200)


@pytest.mark.long
def test_2000_requests_have_the_same_bytes(mapped: Any, runner: Runner) -> None:
    compare(mapped, runner, 2, 2000)


def test_answers_of_every_kind_have_the_same_bytes(mapped: Any) -> None:
    answers = RandomAnswers(3)
    message = orchestrator_pb2.RetrieveRequest(request_id="r", max_results=3).SerializeToString()
    query = mapped.decode(message)
    for _ in range(100):
        candidates = answers.candidates()
        assert mapped.encode(query, candidates) == retrieve.encode(query, candidates)


def test_sizes_and_queries_are_the_same(mapped: Any) -> None:
    draw = random.Random(4)
    for _ in range(200):
        message = retrieve_request(draw, filtered=False).SerializeToString()
        # Values of features that are found by name are counted once they are decoded.
        size = replace(retrieve.measure(message, LIMITS), feature_values=0)
        assert mapped.measure(message, LIMITS) == size
        ours, theirs = mapped.decode(message), retrieve.decode(message)
        assert ours.user_id == theirs.user_id
        assert np.array_equal(np.array(ours.history), np.array(theirs.history))
        assert list(map(str, ours.features.values())) == list(map(str, theirs.features.values()))
        assert ours.task_weights == theirs.task_weights
