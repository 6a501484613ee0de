"""Causes by stages: real services of a mesh over stores that differ from the model's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from meshfold.compat.mesh.server import MeshServer
from meshfold.compat.mesh.settings import RETRIEVAL, SCORING, TOWER, MeshConfig
from meshfold.compat.shadow.attribution import Attribution, MeshFacts
from meshfold.compat.shadow.attribution.mesh_facts import MeshStages
from meshfold.compat.shadow.attribution.model_lists import ModelLists
from meshfold.compat.shadow.attribution.ranking import Ranking
from meshfold.compat.shadow.comparison import Cause
from meshfold.model.config import Merge
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import User
from meshfold.protos.mesh.v1 import orchestrator_pb2
from meshfold.service.config import ServerConfig
from tests.compat.shadow.attribution_world import (
    FILTER,
    ITEMS,
    K,
    answer_of,
    causes,
    exact,
    pair_of,
    published,
    query_of,
)

# What the mesh's index lacks.
LACKING = range(0, ITEMS, 10)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return published(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def lists(snapshot: Snapshot) -> ModelLists:
    return ModelLists(snapshot)


@pytest.fixture(scope="module")
def facts(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshFacts]:
    """Tower and scoring of the model's snapshot, retrieval of one that lacks items."""
    pytest.importorskip("faiss")
    fewer = tmp_path_factory.mktemp("fewer")
    published(fewer, [item for item in range(ITEMS) if item not in LACKING])
    whole = snapshot.folder.parent.parent
    servers = [
        MeshServer(
            name,
            ServerConfig(address="127.0.0.1:0", store=store, shutdown_grace_s=1.0),
            MeshConfig(exact=True, indices=fewer),
        )
        for name, store in ((TOWER, whole), (RETRIEVAL, fewer), (SCORING, whole))
    ]
    for server in servers:
        server.start()
    tower, retrieval, scoring = (server.address for server in servers)
    yield MeshFacts(tower, retrieval, scoring)
    for server in servers:
        server.stop()


@pytest.fixture
def attribution(snapshot: Snapshot, facts: MeshFacts) -> Iterator[Attribution]:
    made = Attribution(snapshot, facts)
    yield made
    made.close()


def has(best: Ranking) -> Ranking:
    """The ranking of a mesh that lacks the items."""
    return best.changed([item for item in best.ids if item in LACKING], {})


@pytest.mark.parametrize("filter_", ["", FILTER])
def test_items_that_retrieval_lacks_are_told_from_those_that_it_misses(
    lists: ModelLists, attribution: Attribution, filter_: str
) -> None:
    number = next(n for n in range(50) if exact(lists, query_of(n, filter_)).top(K) & set(LACKING))
    query = query_of(number, filter_)
    best = exact(lists, query)
    mesh = has(best)
    told = causes(attribution.differences(pair_of(query, answer_of(best), answer_of(mesh))))
    assert set(told) == best.top(K) ^ mesh.top(K)
    assert set(told.values()) == {Cause.MESH_CATALOG}


def test_what_is_found_and_scored_and_yet_not_returned_is_the_merges_fault(
    lists: ModelLists, attribution: Attribution
) -> None:
    query = query_of(1)
    mesh = has(exact(lists, query))
    dropped = mesh.changed([mesh.ids[0]], {})
    told = causes(attribution.differences(pair_of(query, answer_of(mesh), answer_of(dropped))))
    assert told[mesh.ids[0]] == Cause.MERGE


def test_services_answer_as_the_orchestrator_asks_them(lists: ModelLists, facts: MeshFacts) -> None:
    stages = MeshStages(facts, True)
    request = orchestrator_pb2.RetrieveRequest(surface="films", max_results=K)
    request.user.history.extend([1, 2, 3])
    vectors = stages.vectors("films", [request.user])
    (own,) = lists.vectors([User(history=np.array([1, 2, 3]))])
    assert vectors.shape == (1, 2, 8)
    assert abs(vectors[0] - own).max() < 1e-5
    found = stages.found(request, vectors[0], 30, Merge.UNION)
    assert len(found) == 30
    assert not set(found) & {1, 2, 3, *LACKING}
    values = stages.values(request, vectors[0], [5, 6, ITEMS + 1])
    assert set(values) == {5, 6}
    reached = stages.reaches(
        orchestrator_pb2.RetrieveRequest(surface="films"), [5, 10], lists.item_vectors([5, 10]), 50
    )
    assert reached == {5}
    stages.close()
