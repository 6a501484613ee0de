from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.kernels.filter.columns import values_at
from meshfold.kernels.filter.steps import FilterBatch
from meshfold.kernels.vectors.quantize import fine_values, quantize
from meshfold.model.batch import QueryBatch, Results, UserBatch
from meshfold.model.build import publish
from meshfold.model.config import Merge
from meshfold.model.data.catalog import Catalog
from meshfold.model.data.generated import user_vectors
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.schema import Schema
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.model.value.config import ValueConfig
from meshfold.model.value.formulas import padded as padded_programs
from meshfold.model.value.program import compile_formulas

CatalogOf = Callable[..., Catalog]
N, T, D = 900, 2, 8


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True, eq=False)
class Asked:
    """One query in positions; vector: [T, D] float32, or None for the history's."""

    vector: Tensor | None = None
    history: Sequence[int] = ()
    excluded: Sequence[int] = ()
    depth: int = N
    max_results: int = N
    weights: Sequence[float] = ()
    cap: tuple[int, int] = (-1, 0)


def ask(model: RetrievalModel, *asked: Asked, tasks: int = T) -> Results:
    d = model.index.centroids.shape[1]
    vectors = [torch.zeros((tasks, d)) if a.vector is None else a.vector for a in asked]
    b = len(asked)
    names = tuple(f"task_{t}" for t in range(tasks))
    formulas = compile_formulas(Schema("any", (), names), ValueConfig())
    weights = [dict(zip(names, a.weights, strict=False)) for a in asked]
    value_steps, value_constants = padded_programs([formulas.prepare("", w, {}) for w in weights])
    with torch.inference_mode():
        answer: Results = model(
            QueryBatch(
                users=UserBatch(
                    query_vectors=torch.stack(vectors),
                    has_vector=torch.tensor([a.vector is not None for a in asked]),
                    history_positions=padded([a.history for a in asked]),
                    history_ids=padded([a.history for a in asked]),
                    inputs={},
                    has_input=torch.zeros(b, dtype=torch.bool),
                ),
                filters=replace(FilterBatch.everything(b), excluded=padded([a.excluded for a in asked])),
                candidates=torch.tensor([a.depth for a in asked]),
                max_results=torch.tensor([a.max_results for a in asked]),
                value_steps=torch.from_numpy(value_steps),
                value_constants=torch.from_numpy(value_constants),
                cap_field=torch.tensor([a.cap[0] for a in asked]),
                cap_limit=torch.tensor([a.cap[1] for a in asked]),
                explain=torch.ones(len(asked), dtype=torch.bool),
                most_candidates=max(max(a.depth, a.max_results) for a in asked),
                capped=any(a.cap[0] >= 0 for a in asked),
            )
        )
    return answer


def padded(lists: Sequence[Sequence[int]]) -> Tensor:
    longest = max(map(len, lists))
    return torch.tensor([[*row, *[-1] * (longest - len(row))] for row in lists], dtype=torch.int64)


def found(results: Results, i: int = 0) -> list[int]:
    positions: list[int] = results.positions[i].tolist()
    real = [p for p in positions if p >= 0]
    assert positions == real + [-1] * (len(positions) - len(real)), "a hole between results"
    assert len(set(real)) == len(real), "a result comes twice"
    return real


def vector(seed: int, tasks: int = T, d: int = D) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((tasks, d)).astype(np.float32))


def exact(model: RetrievalModel, query: Tensor) -> Tensor:
    """[T, N] float32: the similarity of every item, from integers."""
    coded, index = quantize(query), model.index
    totals = fine_values(coded.codes, coded.residuals) @ fine_values(index.codes, index.residuals).T
    return (totals * index.units.double() * coded.scales.double()[:, None]).float()


def by_value(model: RetrievalModel, values: Tensor, among: Sequence[int] | None = None) -> list[int]:
    rows = model.index.rows.tolist()
    items = range(len(rows)) if among is None else among
    return sorted(items, key=lambda p: (-values[p].item(), rows[p]))


@pytest.fixture(scope="module")
def folder(catalog_of: CatalogOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """N items of which every fourth has the vector of another."""
    vectors = np.random.default_rng(3).standard_normal((N, D)).astype(np.float32)
    vectors[3::4] = vectors[::4][: len(vectors[3::4])][::-1]
    return publish(catalog_of(vectors), Store(tmp_path_factory.mktemp("retrieval")))


@pytest.fixture(scope="module")
def model(folder: Path) -> RetrievalModel:
    return RetrievalModel.of(Snapshot.open(folder))


@pytest.fixture(scope="module")
def intersecting(folder: Path) -> RetrievalModel:
    snapshot = Snapshot.open(folder)
    config = replace(snapshot.content.config, merge=Merge.INTERSECTION)
    return RetrievalModel.of(replace(snapshot, content=replace(snapshot.content, config=config)))


@pytest.fixture(scope="module")
def large(generated_folder: Path) -> RetrievalModel:
    """20,000 items, of which a query scores 2,000 or two for each candidate."""
    snapshot = Snapshot.open(generated_folder)
    return RetrievalModel.of(replace(snapshot, content=replace(snapshot.content, scan_budget=2000)))


def test_results_are_all_items_by_their_largest_similarity(model: RetrievalModel) -> None:
    for seed in range(5):
        query = vector(seed)
        results = ask(model, Asked(query))
        scores = exact(model, query)
        assert found(results) == by_value(model, scores.amax(0))
        at = results.positions[0]
        assert torch.equal(results.similarities[0], scores.amax(0)[at])
        assert torch.equal(results.values, results.similarities)
        assert torch.equal(results.task_scores[0], scores[:, at].T)


def test_equal_vectors_go_to_the_smaller_id(model: RetrievalModel) -> None:
    results = ask(model, Asked(vector(1)))
    rows = model.index.rows[results.positions[0]]
    ties = results.values[0].diff() == 0
    assert ties.sum() >= N / 5
    assert (rows.diff()[ties] > 0).all()


def test_weights_order_by_the_sum_of_task_scores(model: RetrievalModel) -> None:
    query, weights = vector(2), (0.75, -2.5)
    results = ask(model, Asked(query, weights=weights))
    scores = exact(model, query)
    values = (weights[0] * scores[0].double() + weights[1] * scores[1].double()).float()
    assert found(results) == by_value(model, values)
    assert torch.equal(results.values[0], values[results.positions[0]])
    assert torch.equal(results.similarities[0], scores.amax(0)[results.positions[0]])


def of_tasks(model: RetrievalModel, query: Tensor, depth: int, wanted: int) -> list[set[int]]:
    found = model.index.search(
        query.unsqueeze(0),
        model.filter.tensors(),
        FilterBatch.everything(1),
        torch.tensor([depth]),
        depth,
        torch.tensor([wanted]),
    )
    return [set(row) for row in found.positions[0].tolist()]


@pytest.mark.parametrize("depth", [1, 5, 60, 300])
def test_the_union_keeps_the_best_of_what_any_task_found(model: RetrievalModel, depth: int) -> None:
    for seed in range(4):
        query = vector(seed)
        one, other = of_tasks(model, query, depth, depth)
        best = by_value(model, exact(model, query).amax(0), sorted(one | other))
        assert found(ask(model, Asked(query, depth=depth))) == best[:depth]


@pytest.mark.parametrize("depth", [5, 60, 300])
@pytest.mark.parametrize("wanted", [1, 20, 300])
def test_the_intersection_is_filled_up_to_the_results_asked_for(
    intersecting: RetrievalModel, depth: int, wanted: int
) -> None:
    for seed in range(4):
        query = vector(seed)
        one, other = of_tasks(intersecting, query, depth, wanted)
        best = exact(intersecting, query).amax(0)
        missing = max(0, wanted - len(one & other))
        candidates = (one & other) | set(by_value(intersecting, best, sorted(one ^ other))[:missing])
        expected = by_value(intersecting, best, sorted(candidates))[:wanted]
        assert found(ask(intersecting, Asked(query, depth=depth, max_results=wanted))) == expected
        assert len(expected) == min(wanted, len(one | other))


@pytest.mark.parametrize("eligible", [20_000, 19_000, 5000, 1000, 101, 100])
def test_k_results_come_however_few_are_eligible(large: RetrievalModel, eligible: int) -> None:
    kept = np.random.default_rng(eligible).permutation(20_000)[:eligible]
    excluded = sorted(set(range(20_000)) - set(kept.tolist()))
    query = torch.from_numpy(user_vectors(1, 64, 3, items=20_000))
    results = ask(large, Asked(query, excluded=excluded, depth=400, max_results=100), tasks=1)
    assert len(found(results)) == 100
    assert set(found(results)) <= set(kept.tolist())
    assert results.eligible.item() == eligible
    scored = results.scored.item()
    if eligible <= 2000:
        assert scored == eligible
        assert found(results) == by_value(large, exact(large, query)[0], kept.tolist())[:100]
    else:
        assert 2000 <= scored < eligible
        assert results.opened.item() < large.index.centroids.shape[0]


@pytest.mark.parametrize("eligible", [0, 1, 7])
def test_fewer_eligible_items_than_were_asked_for_all_come(model: RetrievalModel, eligible: int) -> None:
    results = ask(model, Asked(vector(0), excluded=range(eligible, N), max_results=10))
    assert sorted(found(results)) == list(range(eligible))
    assert results.eligible.item() == eligible


def test_popular_items_answer_where_nothing_is_known(model: RetrievalModel) -> None:
    popular = by_value(model, model.popularity)
    zero = Asked(torch.zeros((T, D)), max_results=50)
    results = ask(model, Asked(max_results=50, excluded=popular[1:4]), zero, Asked(vector(0)), Asked(depth=5))
    assert results.known.tolist() == [False, False, True, False]
    assert found(results, 0) == [p for p in popular if p not in popular[1:4]][:50]
    assert found(results, 1) == popular[:50]
    assert found(results, 2) == found(ask(model, Asked(vector(0))))
    assert found(results, 3) == popular[:5]
    assert torch.equal(results.similarities[1, :50], model.popularity[popular[:50]])
    assert model.popularity.max() == 1.0


def test_a_history_asks_for_what_is_like_it(model: RetrievalModel) -> None:
    history = [5, 9, 700]
    results = ask(model, Asked(history=history), Asked(history=[5]))
    assert results.known.tolist() == [True, True]
    for i, met in enumerate((history, [5])):
        mean = model.index.vectors(torch.tensor(met)).double().sum(0)
        wanted = exact(model, (mean / mean.norm()).float().unsqueeze(0))[0]
        assert torch.allclose(results.similarities[i], wanted[results.positions[i]], atol=1e-4)
        assert len(found(results, i)) == N


def test_caps_are_greedy_over_the_whole_order(model: RetrievalModel) -> None:
    groups = 3  # the field that holds up to two integers an item
    for limit in (1, 2, 50):
        results = ask(model, Asked(vector(4), cap=(groups, limit), max_results=60), Asked(vector(4)))
        counts: dict[int, int] = {}
        expected = []
        for position in found(results, 1):
            held = model.filter.tensors()
            at = torch.tensor([position])
            own = values_at(held.signature, held.columns[groups], held.offsets[groups], groups, at)[
                1
            ].tolist()
            if all(counts.get(v, 0) < limit for v in own):
                expected.append(position)
                for v in own:
                    counts[v] = counts.get(v, 0) + 1
        assert found(results, 0) == expected[:60]
        values = dict(zip(results.positions[1].tolist(), results.values[1].tolist(), strict=True))
        assert results.values[0, : len(expected[:60])].tolist() == [values[p] for p in expected[:60]]


def bytes_of(results: Results, i: int) -> tuple[bytes, ...]:
    k = len(found(results, i))
    held = (results.positions, results.values, results.similarities, results.task_scores)
    return tuple(t[i, :k].contiguous().numpy().tobytes() for t in held)


def test_one_answer_alone_in_any_company_and_with_any_threads(
    model: RetrievalModel, intersecting: RetrievalModel, large: RetrievalModel
) -> None:
    rng = np.random.default_rng(0)

    def random_query(i: int, n: int, d: int, tasks: int) -> Asked:
        return Asked(
            vector(i, tasks, d) if i % 4 else None,
            history=rng.integers(0, n, int(rng.integers(0, 40))).tolist() if i % 3 else (),
            excluded=rng.integers(-1, n, int(rng.integers(0, 100))).tolist(),
            depth=int(rng.integers(1, 800)),
            max_results=int(rng.integers(1, 400)),
            weights=rng.standard_normal(tasks).tolist() if i % 5 == 0 else (),
            cap=(int(rng.integers(0, 5)), 3) if i % 7 == 0 and n == N else (-1, 0),
        )

    for searched, n, d, tasks in ((model, N, D, T), (intersecting, N, D, T), (large, 20_000, 64, 1)):
        queries = [random_query(i, n, d, tasks) for i in range(24)]
        queries += [replace(queries[0]), Asked(torch.zeros((tasks, d)))]
        torch.set_num_threads(1)
        alone = [bytes_of(ask(searched, q, tasks=tasks), 0) for q in queries]
        for threads, size in ((1, 1), (1, 2), (1, 5), (1, len(queries)), (2, 7)):
            torch.set_num_threads(threads)
            order = rng.permutation(len(queries)).tolist()
            for some in (order[i : i + size] for i in range(0, len(order), size)):
                results = ask(searched, *(queries[i] for i in some), tasks=tasks)
                assert [bytes_of(results, place) for place in range(len(some))] == [alone[i] for i in some]


def test_the_largest_query_vectors_give_finite_results(model: RetrievalModel) -> None:
    results = ask(model, Asked(vector(0) * 8e37, weights=(3e38, -3e38)))
    assert len(found(results)) == N
    assert torch.isfinite(results.values).all()
    assert torch.isfinite(results.similarities).all()
