"""The mesh beside the model, over the same snapshots: real servers, and the mesh's own messages between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from meshfold.compat.mesh.settings import RETRIEVAL, SCORING, TOWER
from meshfold.compat.mesh_v1 import embed, score, search
from meshfold.protos.mesh.v1 import retrieval_pb2, scoring_pb2, user_tower_pb2
from meshfold.service.server import Server
from tests.compat.mesh.mesh_world import (
    D,
    Request,
    Response,
    StartMesh,
    ask,
    request_of,
    start_mesh,
    status,
    whole,
)

__all__ = ["start_mesh", "whole"]

# float32 sums on one side, integers on the other.
CLOSE = 1e-3


def same(mesh: Response, model: Response, similarities: float = CLOSE) -> None:
    """Equal but for the order of values that are closer than CLOSE. similarities: how close those are, of the largest
    one: rounding to 16 bits is relative to the vectors' lengths."""
    assert list(mesh.tasks) == list(model.tasks)
    assert mesh.request_id == model.request_id
    assert len(mesh.candidates) == len(model.candidates)
    scale = max([1.0, *(abs(c.similarity) for c in model.candidates)])
    ours = {c.item_id: c for c in mesh.candidates}
    for a, b in zip(mesh.candidates, model.candidates, strict=True):
        assert a.item_id == b.item_id or abs(a.value - b.value) < CLOSE * scale
        if b.item_id not in ours:
            # A tie at the cut.
            assert abs(b.value - model.candidates[-1].value) < CLOSE * scale
            continue
        a = ours[b.item_id]
        assert abs(a.similarity - b.similarity) < similarities * scale
        np.testing.assert_allclose([a.value, *a.task_scores], [b.value, *b.task_scores], atol=CLOSE * scale)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "ivf"])
def test_mesh_and_model_give_equal_answers_from_equal_weights(
    whole: Path, start: Callable[..., Server], start_mesh: StartMesh, exact: bool
) -> None:
    model, mesh = start(whole).address, start_mesh(whole, exact=exact).address
    for seed in range(24):
        # The mesh tells the similarities that it searched by: where it does not compare exactly they are of 8 bits.
        same(ask(mesh, request_of(seed)), ask(model, request_of(seed)), CLOSE if exact else math.inf)


def test_snapshots_without_programs_are_equal_too(
    store: Path, start: Callable[..., Server], start_mesh: StartMesh
) -> None:
    model, mesh = start(store).address, start_mesh(store, exact=True).address
    for seed in range(6):
        request = Request(surface="", max_results=50)
        request.user.history.extend(range(10, 10 + seed * 9))
        if seed == 4:
            request.task_weights["watch"] = 0.5
        same(ask(mesh, request), ask(model, request))


def test_bad_requests_get_the_models_own_statuses(
    whole: Path, start: Callable[..., Server], start_mesh: StartMesh
) -> None:
    model, mesh = start(whole).address, start_mesh(whole, exact=True).address
    bad = {
        name: request_of(3)
        for name in ("surface", "formula", "field", "results", "input", "vector", "weight")
    }
    bad["surface"].surface = "shoppe"
    bad["formula"].value_formula = "cheep"
    bad["field"].filter.all.filters.add().range.field = "language"
    bad["results"].max_results = 0
    bad["input"].user.features["country"].ints.values.append(3)
    bad["vector"].user.features["query_vector"].floats.values.append(3.0)
    bad["weight"].task_weights["like"] = 7.0
    for request in bad.values():
        assert status(mesh, request) == status(model, request)


def test_every_service_answers_as_the_model_does(
    whole: Path, start: Callable[..., Server], start_mesh: StartMesh
) -> None:
    model, mesh = start(whole).address, start_mesh(whole, exact=True)
    user = request_of(7).user
    vectors = np.random.default_rng(1).standard_normal((2, D)).astype(np.float32).tolist()
    calls: list[tuple[str, Any, Any, Any]] = [
        (
            TOWER,
            embed,
            user_tower_pb2.EmbedRequest(users=[user, request_of(4).user, {}]),
            user_tower_pb2.EmbedResponse,
        ),
        (TOWER, embed, user_tower_pb2.EmbedRequest(), user_tower_pb2.EmbedResponse),
        (
            RETRIEVAL,
            search,
            retrieval_pb2.SearchRequest(queries=[{"values": v} for v in vectors], k=30),
            retrieval_pb2.SearchResponse,
        ),
        (
            RETRIEVAL,
            search,
            retrieval_pb2.SearchRequest(queries=[{"values": [0] * D}], k=30),
            retrieval_pb2.SearchResponse,
        ),
        (RETRIEVAL, search, retrieval_pb2.SearchRequest(k=30), retrieval_pb2.SearchResponse),
        (
            SCORING,
            score,
            scoring_pb2.ScoreRequest(user=user, item_ids=[8, 6, 5, 8, 11]),
            scoring_pb2.ScoreResponse,
        ),
        (SCORING, score, scoring_pb2.ScoreRequest(), scoring_pb2.ScoreResponse),
    ]
    for name, adapter, request, response in calls:
        answers = []
        for address in (mesh.servers[name].address, model):
            with grpc.insecure_channel(address) as channel:
                answers.append(
                    response.FromString(channel.unary_unary(adapter.METHOD)(request.SerializeToString()))
                )
        ours, theirs = (numbers_of(answer) for answer in answers)
        assert ours.keys() == theirs.keys()
        for field in ours:
            np.testing.assert_allclose(ours[field], theirs[field], atol=CLOSE, err_msg=f"{name} {field}")


def numbers_of(message: Any) -> dict[str, list[Any]]:
    """Every number of a message by the path of its field; texts are hashed."""
    found: dict[str, list[Any]] = {}

    def walk(path: str, value: Any) -> None:
        if hasattr(value, "ListFields"):
            for field, inner in value.ListFields():
                walk(f"{path}.{field.name}", inner)
        elif isinstance(value, str):
            found.setdefault(path, []).append(hash(value))
        elif isinstance(value, int | float):
            found.setdefault(path, []).append(value)
        else:
            for inner in value:
                walk(path, inner)

    walk("", message)
    return found


def test_an_explained_answer_tells_of_each_step(whole: Path, start_mesh: StartMesh) -> None:
    mesh = start_mesh(whole, exact=True)
    request = request_of(7)
    assert not ask(mesh.address, request).explain
    request.explain = True
    explain = ask(mesh.address, request).explain
    assert explain["user"] == "known"
    assert {"embed_ms", "search_ms", "score_ms", "candidates"} <= explain.keys()
