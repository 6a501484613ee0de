"""Bytes of answers beside those of the generated classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from meshfold.compat import meshfold_v1
from meshfold.compat.mesh_v1 import embed, retrieve, score, search
from meshfold.kernels.native import library
from meshfold.model.types import Candidates, Query
from meshfold.protos.mesh.v1 import types_pb2 as types
from tests.compat import generated_answers
from tests.compat.random_answers import RandomAnswers

CALLS: dict[str, tuple[Callable[..., bytes], Callable[..., bytes], Callable[[RandomAnswers], Any]]] = {
    "retrieve": (retrieve.encode, generated_answers.retrieve_response, RandomAnswers.candidates),
    "embed": (embed.encode, generated_answers.embed_response, RandomAnswers.embeddings),
    "search": (search.encode, generated_answers.search_response, RandomAnswers.neighbours),
    "score": (score.encode, generated_answers.score_response, RandomAnswers.scores),
    "meshfold.v1": (meshfold_v1.encode, generated_answers.native_response, RandomAnswers.candidates),
}


def compare(call: str, seed: int, answers: int) -> None:
    encode, generated, draw = CALLS[call]
    random = RandomAnswers(seed)
    for place in range(answers):
        query, answer = random.query(), draw(random)
        assert encode(query, answer) == generated(query, answer), (
            f"{call}, answer {place} of seed {seed}: {answer}"
        )


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("level", library.levels()[:2])
def test_answers_are_those_of_the_generated_classes(call: str, level: str) -> None:
    with library.forced(level):
        compare(call, 1, 100)


@pytest.mark.long
@pytest.mark.parametrize("call", CALLS)
def test_10000_answers_are_those_of_the_generated_classes(call: str) -> None:
    compare(call, 2, 10_000)


def test_the_parts_of_a_mesh_have_versions_of_their_own() -> None:
    random = RandomAnswers(3)
    versions = types.Versions(user_tower="a", scoring="b")
    for _ in range(10):
        query, answer = random.query(), random.candidates()
        ours = retrieve.encode(query, answer, versions)
        assert ours == generated_answers.retrieve_response(query, answer, versions)


def test_columns_of_different_lengths_are_refused() -> None:
    floats = np.zeros(2, np.float32)
    answer = Candidates(("like",), "v", np.arange(3), floats, floats, floats[:, None])
    with pytest.raises(ValueError, match="columns for candidates have different lengths, 3 and 2"):
        retrieve.encode(Query("s", 3), answer)
