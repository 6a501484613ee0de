"""RetrievalService/Search: nearest neighbours among the eligible items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from meshfold.protos.mesh.v1.retrieval_pb2 import SearchRequest, SearchResponse
from tests.compat.conformance.shop import (
    FILTERS,
    IDS,
    POPULARITY,
    SURFACE,
    D,
    N,
    best_first,
    eligible,
    exact_vectors,
    similarities,
)
from tests.compat.conformance.targets import TIMEOUT_S, Target

QUERIES = exact_vectors(8, 3)


def search(target: Target, vectors: Any = QUERIES, **parts: Any) -> SearchResponse:
    queries = [{"values": vector.tolist()} for vector in vectors]
    message = SearchRequest(**{"surface": SURFACE, "k": N, "queries": queries, **parts})
    response: SearchResponse = target.search(message, timeout=TIMEOUT_S)
    return response


@pytest.mark.parametrize("case", FILTERS)
def test_each_vector_finds_the_nearest_of_what_the_filter_lets_through(target: Target, case: str) -> None:
    filter_, passes = FILTERS[case]
    response = search(target, filter=filter_)
    assert len(response.neighbours) == len(QUERIES)
    for near, found in zip(similarities(list(QUERIES)), response.neighbours, strict=True):
        order = best_first(near, eligible(passes), N)
        assert list(found.item_ids) == IDS[order].tolist()
        assert list(found.similarities) == near[order].tolist()


@pytest.mark.parametrize("k", [1, 10, N, 2 * N])
def test_k_come_wherever_k_are_eligible(target: Target, k: int) -> None:
    whole = search(target).neighbours
    for found, every in zip(search(target, k=k).neighbours, whole, strict=True):
        assert list(found.item_ids) == list(every.item_ids)[:k]


def test_excluded_items_do_not_come(target: Target) -> None:
    (whole,) = search(target, QUERIES[:1]).neighbours
    left_out = [*whole.item_ids[:4], 123_456_789]
    (found,) = search(target, QUERIES[:1], excluded_item_ids=left_out).neighbours
    assert list(found.item_ids) == [i for i in whole.item_ids if i not in left_out]
    assert not search(target, excluded_item_ids=IDS.tolist()).neighbours[2].item_ids


def test_vectors_of_zeros_find_what_is_popular(target: Target) -> None:
    response = search(target, np.zeros((2, D)), k=20)
    order = best_first(POPULARITY, [True] * N, 20)
    for found in response.neighbours:
        assert list(found.item_ids) == IDS[order].tolist()
        assert list(found.similarities) == POPULARITY[order].tolist()


def test_no_vectors_find_nothing(target: Target) -> None:
    response = search(target, ())
    assert not response.neighbours
    assert response.version == search(target).version


def test_an_answer_names_the_version_of_its_index(target: Target) -> None:
    assert len(search(target, k=1).version) >= 12
