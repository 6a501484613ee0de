"""Embed, Search and Score: parts of the forward pass as calls of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from meshfold.compat.filters import encode_filter
from meshfold.compat.mesh_v1 import embed, retrieve, score, search
from meshfold.model.errors import InvalidQuery, UnknownName
from meshfold.model.filter.expression import Match, Not, Range
from meshfold.model.filter.text import parse_filter
from meshfold.model.limits import Limits
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.store import Store
from meshfold.model.types import (
    QUERY_VECTOR,
    AnyAnswer,
    EmbedQuery,
    Query,
    RequestSize,
    ScoreQuery,
    SearchQuery,
    User,
)
from meshfold.protos.mesh.v1 import orchestrator_pb2, retrieval_pb2, scoring_pb2, types_pb2, user_tower_pb2
from meshfold.service.call import Call
from meshfold.service.event_loop import EventLoop
from meshfold.service.lane import LaneLimits
from meshfold.service.runner import Runner
from meshfold.service.scheduler import Scheduler
from meshfold.service.server import Server
from meshfold.service.work import Work

Build = Callable[..., Path]
# The shop of `meshfold build` and the one of vectors alone.
ITEMS, D, T = 1500, 16, 2
FILTERS = ("true", 'language in ["de", "es"]', 'year >= 1990 && !("t3" in tags)', "price < 0.2", "year == 1")
KINDS = (embed, search, score)


@pytest.fixture(scope="module")
def whole(build_shop: Build) -> Path:
    """A snapshot with towers, OverArch and formulas."""
    return build_shop(user_tower="User", over_arch="Rank")


@pytest.fixture(scope="module")
def runner(whole: Path) -> Runner:
    return Runner.open(whole, "shop")


@pytest.fixture(scope="module")
def plain(store: Path) -> Runner:
    """400 items 10, 11, ... of 8 random dimensions, the most popular first; no programs."""
    (folder,) = Store(store).published("shop")
    return Runner.open(folder, "shop")


def user(seed: int) -> User:
    """Users of every kind, unknown ones too."""
    rng = np.random.default_rng(seed)
    features: dict[str, Any] = {}
    if seed % 2:
        features = {"country": (f"c{seed}",), "clock": rng.random(2).astype(np.float32)}
    if seed % 5 == 0:
        features[QUERY_VECTOR] = rng.standard_normal(T * D if seed % 10 else D).astype(np.float32)
    return User(seed, rng.integers(0, ITEMS * 3, (seed * 11) % 150).astype(np.int64), features)


def vectors(seed: int, count: int, d: int = D) -> tuple[Any, ...]:
    return tuple(np.random.default_rng(seed).standard_normal((count, d)).astype(np.float32))


@pytest.mark.parametrize("seed", range(12))
def test_the_calls_of_an_orchestrator_come_to_what_retrieve_answers(
    whole: Path, start: Callable[..., Server], seed: int
) -> None:
    """Through one port and the mesh's own messages: ids, values and scores are the same to the bit."""
    address = start(whole.parent.parent).address
    person = user(seed)
    formula = ("", "cheap", "similarity")[seed % 3]
    asked = Query(
        "shop",
        (1, 7, 100, 1100)[seed % 4],
        user_id=person.user_id,
        history=person.history,
        features=person.features,
        filter=parse_filter(FILTERS[seed % len(FILTERS)]),
        excluded_ids=np.arange(5, 5 + 60 * seed, 3),
        task_weights={"like": 0.25 * seed} if formula == "" and seed % 2 == 0 and seed < 8 else {},
        value_formula=formula,
    )
    with grpc.insecure_channel(address) as channel:

        def call(adapter: Any, request: Any, response: Any) -> Any:
            return response.FromString(channel.unary_unary(adapter.METHOD)(request.SerializeToString()))

        request = message_of(asked)
        wanted = call(retrieve, request, orchestrator_pb2.RetrieveResponse)
        embedded = call(
            embed,
            user_tower_pb2.EmbedRequest(surface="shop", users=[request.user]),
            user_tower_pb2.EmbedResponse,
        )
        (embeddings,) = embedded.users
        found = call(
            search,
            retrieval_pb2.SearchRequest(
                surface="shop",
                queries=[{"values": e.values} for e in embeddings.embeddings],
                filter=request.filter,
                excluded_item_ids=request.excluded_item_ids,
                k=ITEMS,
            ),
            retrieval_pb2.SearchResponse,
        )
        candidates = sorted({i for neighbours in found.neighbours for i in neighbours.item_ids})
        scored = call(
            score,
            scoring_pb2.ScoreRequest(
                surface="shop",
                user=request.user,
                item_ids=candidates,
                task_weights=request.task_weights,
                value_formula=request.value_formula,
            ),
            scoring_pb2.ScoreResponse,
        )
    assert list(embedded.tasks) == list(scored.tasks) == list(wanted.tasks)
    versions = {embedded.version, found.version, scored.version}
    assert versions == {wanted.versions.user_tower, wanted.versions.index, wanted.versions.scoring}
    assert list(scored.item_ids) == candidates
    task_scores = np.array(scored.task_scores).reshape(-1, T)
    best = sorted(range(len(candidates)), key=lambda i: (-scored.values[i], candidates[i]))[
        : asked.max_results
    ]
    assert [candidates[i] for i in best] == [c.item_id for c in wanted.candidates]
    assert [scored.values[i] for i in best] == [c.value for c in wanted.candidates]
    assert [task_scores[i].tolist() for i in best] == [list(c.task_scores) for c in wanted.candidates]
    assert len(best) > 0 or seed % len(FILTERS) == 4


def message_of(query: Query) -> orchestrator_pb2.RetrieveRequest:
    request = orchestrator_pb2.RetrieveRequest(
        surface=query.surface,
        user=types_pb2.UserContext(user_id=int(query.user_id), history=np.asarray(query.history).tolist()),
        max_results=query.max_results,
        excluded_item_ids=np.asarray(query.excluded_ids).tolist(),
        task_weights=query.task_weights,
        value_formula=query.value_formula,
    )
    for name, values in query.features.items():
        feature = request.user.features[name]
        if isinstance(values, tuple):
            feature.strings.values.extend(values)
        else:
            feature.floats.values.extend(values.tolist())
    if query.filter is not None:
        encode_filter(query.filter, request.filter)
    return request


def mixed(seed: int) -> EmbedQuery | SearchQuery | ScoreQuery:
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        return EmbedQuery("shop", tuple(user(seed + i) for i in range(seed % 4)))
    if seed % 3 == 1:
        zeros = (np.zeros(D, np.float32),) * (seed % 2)
        return SearchQuery(
            "shop",
            int(rng.integers(1, 300)),
            (*vectors(seed, seed % 4), *zeros),
            parse_filter(FILTERS[seed % len(FILTERS)]),
            rng.integers(0, ITEMS * 3, seed * 9),
        )
    formula = ("cheap", "similarity", "")[seed % 3]
    # Across the tiles in which an OverArch runs.
    ids = rng.integers(0, ITEMS * 3, (0, 1, 700, 2047, 6200, 6300)[seed // 3 % 6])
    return ScoreQuery("shop", user(seed), ids, {"like": 0.5} if formula == "" else {}, formula)


def prepared(runner: Runner, query: Any) -> tuple[Callable[[Sequence[Any]], Sequence[Any]], Any, Any]:
    match query:
        case EmbedQuery():
            return runner.embed, runner.prepare_embed(query), embed
        case SearchQuery():
            return runner.search, runner.prepare_search(query), search
    return runner.score, runner.prepare_score(query), score


class ByPlace:
    """An adapter whose requests are places in a list of queries."""

    def __init__(self, adapter: Any, queries: Sequence[Any]) -> None:
        self.METHOD = adapter.METHOD
        self.encode = adapter.encode
        self._queries = queries

    def measure(self, message: bytes, limits: Limits) -> RequestSize:
        return RequestSize("shop", bytes=len(message))

    def decode(self, message: bytes) -> Any:
        return self._queries[int(message)]


def test_one_answer_alone_in_any_company_and_beside_other_calls(runner: Runner) -> None:
    queries = [mixed(seed) for seed in range(36)]

    def message(query: Any, adapter: Any, answer: AnyAnswer) -> bytes:
        encoded: bytes = adapter.encode(query, answer)
        return encoded

    alone = []
    for query in queries:
        run, one, adapter = prepared(runner, query)
        alone.append(message(query, adapter, run([one])[0]))
    assert sum(len(a) > 200 for a in alone) > 20
    work = {adapter: Work(ByPlace(adapter, queries), runner, Limits()) for adapter in KINDS}
    loop = EventLoop("test-loop")
    scheduler = Scheduler(2, 16, LaneLimits(1000, 1 << 20, 60.0))

    async def asked(order: Sequence[int]) -> list[bytes]:
        calls = []
        for i in order:
            of_call = work[prepared(runner, queries[i])[2]]
            message = b"%d" % i
            size = await scheduler.measure(of_call.adapter, message, of_call.limits)
            calls.append(scheduler.run(of_call, size, Call(message, time.monotonic() + 60)))
        return await asyncio.gather(*calls)

    try:
        for order in (np.arange(36), np.random.default_rng(0).permutation(36)):
            assert loop.run(asked(order.tolist())) == [alone[i] for i in order]
    finally:
        scheduler.stop(5)
        loop.stop()


def test_neighbours_are_those_of_float64_brute_force_for_each_vector(plain: Runner) -> None:
    assert isinstance(plain.model, RetrievalModel)
    items = plain.model.index.vectors(plain.model.popular.long()).double().numpy()
    ids = 10 + np.arange(400)  # the most popular first
    query = SearchQuery("shop", 50, vectors(1, 3, 8), Not(Match("language", ("de",))), np.arange(20, 60))
    (got,) = plain.search([plain.prepare_search(query)])
    allowed = (ids % 3 != 1) & ~np.isin(ids, query.excluded_ids)
    for vector, found, similarities in zip(query.queries, got.item_ids, got.similarities, strict=True):
        exact = items @ vector.astype(np.float64)
        order = np.argsort(-np.where(allowed, exact, -np.inf), kind="stable")[:50]
        assert list(found) == ids[order].tolist()
        np.testing.assert_allclose(similarities, exact[order], rtol=1e-3, atol=1e-3)
        assert (np.diff(similarities) <= 0).all()


@pytest.mark.parametrize("eligible", [400, 101, 100, 99, 1, 0])
def test_k_neighbours_come_wherever_k_are_eligible(plain: Runner, eligible: int) -> None:
    query = SearchQuery("shop", 100, vectors(2, 2, 8), None, np.arange(10 + eligible, 410))
    (got,) = plain.search([plain.prepare_search(query)])
    for found in got.item_ids:
        assert len(set(found)) == len(found) == min(100, eligible)
        assert not len(found) or np.max(found) < 10 + eligible


def test_vectors_of_zeros_find_what_is_popular(plain: Runner) -> None:
    zero = np.zeros(8, np.float32)
    query = SearchQuery("shop", 5, (zero, zero), Range("year", 1905, None, inclusive=True))
    (got,) = plain.search([plain.prepare_search(query)])
    (wanted,) = plain.run([plain.prepare(Query("shop", 5, filter=query.filter))])
    for found, similarities in zip(got.item_ids, got.similarities, strict=True):
        assert list(found) == list(wanted.item_ids) == [15, 16, 17, 18, 19]
        assert similarities.tolist() == wanted.similarities.tolist()
    # Beside one that says something, zeros are a vector like others: as similar to everything, so that ids decide.
    (got,) = plain.search([plain.prepare_search(replace(query, queries=(zero, vectors(0, 1, 8)[0])))])
    assert list(got.item_ids[0]) == [15, 16, 17, 18, 19]
    assert got.similarities[0].tolist() == [0.0] * 5


def test_equal_similarities_go_to_the_smaller_id(publish_twins: Runner) -> None:
    (got,) = publish_twins.search([publish_twins.prepare_search(SearchQuery("shop", 40, vectors(3, 1, 8)))])
    ids, similarities = got.item_ids[0], got.similarities[0]
    ties = np.diff(similarities) == 0
    assert ties.sum() == 20
    assert (np.diff(ids)[ties] > 0).all()


@pytest.fixture(scope="module")
def publish_twins(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """40 items, every second with the vector of the one before."""
    from meshfold.model.build import publish
    from meshfold.model.data.catalog import Catalog
    from meshfold.model.schema import Schema

    twice = np.repeat(np.stack(vectors(9, 20, 8)), 2, 0)
    catalog = Catalog(
        schema=Schema("shop", (), ("like",)),
        item_ids=np.arange(40),
        columns={},
        vectors=lambda: iter([twice]),
        dimension=8,
        texts={},
        popularity=np.zeros(40, np.float32),
    )
    return Runner.open(publish(catalog, Store(tmp_path_factory.mktemp("twins"))), "shop")


def test_scores_come_in_the_order_of_the_ids_with_the_unknown_apart(runner: Runner) -> None:
    ids = np.array([8, 6, 5, 2**63 - 1, 8, 5 + 3 * (ITEMS - 1), -(2**63), 6])
    query = ScoreQuery("shop", user(3), ids)
    (got,) = runner.score([runner.prepare_score(query)])
    assert list(got.item_ids) == [8, 5, 8, 5 + 3 * (ITEMS - 1)]
    assert list(got.unknown_ids) == [6, 2**63 - 1, -(2**63), 6]
    assert got.values[0] == got.values[2]
    assert got.task_scores.shape == (4, T)
    (none,) = runner.score([runner.prepare_score(replace(query, item_ids=np.array([1, 1])))])
    assert (list(none.item_ids), list(none.unknown_ids)) == ([], [1, 1])
    assert none.task_scores.shape == (0, T)


def test_who_is_not_known_has_zeros_for_vectors_and_popularity_for_scores(runner: Runner) -> None:
    nobody, somebody = User(1, np.array([6, 7])), user(3)
    (got,) = runner.embed([runner.prepare_embed(EmbedQuery("shop", (nobody, somebody)))])
    assert got.vectors.shape == (2, T, D)
    assert not got.vectors[0].any()
    assert got.vectors[1].any()
    (scores,) = runner.score(
        [runner.prepare_score(ScoreQuery("shop", nobody, np.array([5, 8]), {}, "similarity"))]
    )
    assert scores.values.tolist() == scores.task_scores[:, 1].tolist() == [1.0, np.float32(1499 / 1500)]


def test_nothing_asked_is_nothing_answered(runner: Runner) -> None:
    (embedded,) = runner.embed([runner.prepare_embed(EmbedQuery("shop", ()))])
    assert embedded.vectors.shape == (0, T, D)
    (found,) = runner.search([runner.prepare_search(SearchQuery("shop", 1, ()))])
    assert (found.version, found.item_ids, found.similarities) == (runner.version, (), ())
    (scored,) = runner.score([runner.prepare_score(ScoreQuery("shop", User(), np.empty(0, np.int64)))])
    assert (scored.tasks, len(scored.values), len(scored.unknown_ids)) == (("like", "watch"), 0, 0)


def test_what_does_not_fit_the_schema_is_refused_with_its_path(runner: Runner) -> None:
    short = User(0, np.array([5]), {QUERY_VECTOR: np.zeros(3, np.float32)})
    ragged = (*vectors(0, 1), np.zeros(3, np.float32))
    for path, query in (
        (f'users[1].features["{QUERY_VECTOR}"]', EmbedQuery("shop", (User(), short))),
        (f'features["{QUERY_VECTOR}"]', ScoreQuery("shop", short, np.array([5]))),
        ("queries[1]", SearchQuery("shop", 5, ragged)),
        ("filter", SearchQuery("shop", 5, vectors(0, 1), Match("title", ("x",)))),
    ):
        with pytest.raises(InvalidQuery) as caught:
            prepared(runner, query)
        assert caught.value.path.startswith(path)
    with pytest.raises(UnknownName, match="did you mean 'cheap'"):
        runner.prepare_score(ScoreQuery("shop", User(), np.array([5]), {}, "cheep"))


@pytest.mark.parametrize("adapter", KINDS)
def test_bytes_that_are_no_request_are_the_callers_fault(served: Server, adapter: Any) -> None:
    with grpc.insecure_channel(served.address) as channel:
        for message in (b"\xff", b"\x0a\x05ab"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(adapter.METHOD)(message, timeout=10)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert caught.value.details().startswith("request: the bytes are not a mesh.v1.")
