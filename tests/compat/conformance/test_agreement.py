"""Mesh and model side by side: the same requests, the same results but for ties, values within a thousandth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from meshfold.protos.mesh.v1.orchestrator_pb2 import RetrieveResponse
from meshfold.protos.mesh.v1.user_tower_pb2 import EmbedRequest
from tests.compat.conformance.agreement import APART, different
from tests.compat.conformance.requests import requests
from tests.compat.conformance.shop import SURFACE
from tests.compat.conformance.targets import MESH, MODEL, TIMEOUT_S, Target

COUNT = 120


@pytest.fixture(scope="module")
def answers(targets: dict[str, Target]) -> dict[str, list[RetrieveResponse]]:
    """What each side answers to the same requests."""
    return {
        name: [targets[name].retrieve(request, timeout=TIMEOUT_S) for request in requests(COUNT)]
        for name in (MODEL, MESH)
    }


def test_the_same_results_but_for_ties(answers: dict[str, list[RetrieveResponse]]) -> None:
    told = [
        f"{request.request_id}: {said}"
        for request, ours, theirs in zip(requests(COUNT), answers[MODEL], answers[MESH], strict=True)
        if (said := different(ours, theirs))
    ]
    assert not told
    same = sum(
        [c.item_id for c in ours.candidates] == [c.item_id for c in theirs.candidates]
        for ours, theirs in zip(answers[MODEL], answers[MESH], strict=True)
    )
    assert same >= 0.95 * COUNT


def test_the_same_tasks_and_scores(answers: dict[str, list[RetrieveResponse]]) -> None:
    for ours, theirs in zip(answers[MODEL], answers[MESH], strict=True):
        assert (list(ours.tasks), ours.request_id) == (list(theirs.tasks), theirs.request_id)
        scores = [{c.item_id: c.task_scores for c in side.candidates} for side in (ours, theirs)]
        for item_id in scores[0].keys() & scores[1].keys():
            np.testing.assert_allclose(scores[0][item_id], scores[1][item_id], rtol=0, atol=APART)


def test_a_difference_would_be_seen(answers: dict[str, list[RetrieveResponse]]) -> None:
    whole = next(a for a in answers[MODEL] if len(a.candidates) > 30)
    for change in ("value", "missing", "order"):
        changed = RetrieveResponse()
        changed.CopyFrom(whole)
        match change:
            case "value":
                changed.candidates[3].value += 0.01
            case "missing":
                del changed.candidates[5]
            case "order":
                first, last = changed.candidates[0].item_id, changed.candidates[-1].item_id
                changed.candidates[0].item_id, changed.candidates[-1].item_id = last, first
        assert different(whole, changed)


def test_the_same_vectors_of_users(targets: dict[str, Target]) -> None:
    users = [request.user for request in requests(COUNT)[:60]]
    sides: list[Any] = [
        targets[name].embed(EmbedRequest(surface=SURFACE, users=users), timeout=TIMEOUT_S)
        for name in (MODEL, MESH)
    ]
    ours, theirs = (
        np.array([[e.values for e in user.embeddings] for user in side.users], np.float32) for side in sides
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert ours.any(2).sum() > 60
