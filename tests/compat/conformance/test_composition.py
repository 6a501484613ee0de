"""A caller who makes the orchestrator's calls comes to the orchestrator's answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from meshfold.protos.mesh.v1.orchestrator_pb2 import RetrieveRequest, RetrieveResponse
from meshfold.protos.mesh.v1.retrieval_pb2 import SearchRequest
from meshfold.protos.mesh.v1.scoring_pb2 import ScoreRequest
from meshfold.protos.mesh.v1.user_tower_pb2 import EmbedRequest
from tests.compat.conformance.agreement import different
from tests.compat.conformance.requests import requests
from tests.compat.conformance.shop import N
from tests.compat.conformance.targets import MODEL, TIMEOUT_S, Target


@pytest.mark.parametrize("place", range(24))
def test_embed_search_and_score_come_to_retrieve(target: Target, place: int) -> None:
    request = requests(24)[place]
    wanted = target.retrieve(request, timeout=TIMEOUT_S)
    embedded = target.embed(EmbedRequest(surface=request.surface, users=[request.user]), timeout=TIMEOUT_S)
    found = target.search(
        SearchRequest(
            surface=request.surface,
            queries=[{"values": e.values} for e in embedded.users[0].embeddings],
            filter=request.filter if request.HasField("filter") else None,
            # What Retrieve leaves out by itself.
            excluded_item_ids=[*request.excluded_item_ids, *request.user.history],
            k=N,
        ),
        timeout=TIMEOUT_S,
    )
    candidates = sorted({item_id for neighbours in found.neighbours for item_id in neighbours.item_ids})
    scored = target.score(
        ScoreRequest(
            surface=request.surface,
            user=request.user,
            item_ids=candidates,
            task_weights=request.task_weights,
            value_formula=request.value_formula,
        ),
        timeout=TIMEOUT_S,
    )
    scores: Any = np.array(scored.task_scores, np.float32).reshape(-1, len(scored.tasks))
    order = np.lexsort((candidates, -np.array(scored.values, np.float32)))[: request.max_results].tolist()
    composed = RetrieveResponse(
        candidates=[
            {"item_id": candidates[i], "value": scored.values[i], "task_scores": scores[i].tolist()}
            for i in order
        ]
    )
    assert not different(composed, wanted)
    if target.name == MODEL:
        for candidate in wanted.candidates:
            candidate.ClearField("similarity")
        assert list(composed.candidates) == list(wanted.candidates)


def test_the_requests_ask_for_all_that_there_is() -> None:
    """Or the comparisons would compare little."""
    asked = requests(24)
    for part in ("filter", "user"):
        assert 6 < sum(r.HasField(part) for r in asked) <= 24
    assert {r.value_formula for r in asked} == {"", "mixed", "cheap", "recent", "similarity"}
    assert len({r.max_results for r in asked}) > 3
    assert sum(bool(r.user.history) for r in asked) > 10
    assert sum("query_vector" in r.user.features for r in asked) > 3
    assert isinstance(asked[0], RetrieveRequest)
