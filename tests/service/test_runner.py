from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshfold.model.build import publish
from meshfold.model.config import IndexConfig
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.errors import InvalidConfig, InvalidQuery, SnapshotRefused, UnknownName
from meshfold.model.filter.expression import Exists, Match, Not, Range
from meshfold.model.inputs import HISTORY
from meshfold.model.query_lists import checked
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.model.types import (
    QUERY_VECTOR,
    Candidates,
    EmbedQuery,
    MaxPerValue,
    Query,
    ScoreQuery,
    SearchQuery,
    User,
)
from meshfold.service.runner import Runner

N, D = 1200, 8
IDS = np.arange(N, dtype=np.int64) * 5 - 2000
VECTORS = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
FIELDS = (
    Field("title", FieldKind.TEXT),
    Field("language", FieldKind.CATEGORY),
    Field("tags", FieldKind.CATEGORIES),
    Field("rank", FieldKind.INTEGER),
    Field("groups", FieldKind.INTEGERS),
    Field("price", FieldKind.NUMBER),
)
LANGUAGES = [["de"], ["en"], []]


def catalog(**schema: Any) -> Catalog:
    """Item i has rank i, so that a range lets through as many items as a test wants."""
    places = range(N)
    return Catalog(
        schema=Schema(**({"surface": "shop", "fields": FIELDS, "tasks": ("like", "watch", "buy")} | schema)),
        item_ids=IDS,
        columns={
            "language": Column.of_strings(FieldKind.CATEGORY, [LANGUAGES[i % 3] for i in places]),
            "tags": Column.of_strings(FieldKind.CATEGORIES, [[f"t{i % 80}", "é"][: i % 3] for i in places]),
            "rank": Column.of_integers(FieldKind.INTEGER, [[i] for i in places]),
            "groups": Column.of_integers(FieldKind.INTEGERS, [[i % 4, 9][: i % 3] for i in places]),
            "price": Column.of_numbers(np.array([np.nan, -0.0, np.inf, 0.1] * (N // 4))),
        },
        vectors=lambda: iter([VECTORS]),
        dimension=D,
        texts={"title": [f"title {i}" if i % 2 else "" for i in places]},
        popularity=np.linspace(0, 1, N, dtype=np.float32),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(catalog(), Store(tmp_path_factory.mktemp("store")), IndexConfig(candidates=200))


@pytest.fixture(scope="module")
def runner(folder: Path) -> Runner:
    return Runner.open(folder, "shop")


def vector(seed: int = 0, size: int = D) -> dict[str, Any]:
    return {QUERY_VECTOR: np.random.default_rng(seed).standard_normal(size).astype(np.float32)}


def query(max_results: int = 10, **parts: Any) -> Query:
    return Query("shop", max_results, **({"features": vector()} | parts))


def answer(runner: Runner, one: Query) -> Candidates:
    (candidates,) = runner.run([runner.prepare(one)])
    assert candidates.version == runner.version
    return candidates


def ids(*places: int) -> Any:
    return IDS[list(places)]


def bytes_of(candidates: Candidates) -> tuple[bytes, ...]:
    held = (candidates.item_ids, candidates.values, candidates.similarities, candidates.task_scores)
    return tuple(np.asarray(array).tobytes() for array in held)


@pytest.mark.parametrize("name", ["meta", "abacus", "cuda:99", "mps"])
def test_a_device_that_is_none_here_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(
        InvalidConfig, match=f"must be cpu, cuda or cuda:N, got '{name}'|{name}: .* GPUs here"
    ):
        Runner.open(folder, "shop", name)


def test_another_surface_s_folder_is_refused(folder: Path) -> None:
    with pytest.raises(SnapshotRefused, match="'shop', not of 'feed'"):
        Runner.open(folder, "feed")


@pytest.mark.parametrize("eligible", [N, N - 1, 600, 300, 120, 101, 100, 99, 1, 0])
@pytest.mark.parametrize("wanted", [100, 1000])
def test_k_results_come_wherever_k_are_eligible(runner: Runner, eligible: int, wanted: int) -> None:
    ways: list[dict[str, Any]] = [
        {},
        {"features": {}},
        {"features": vector(1, 3 * D), "task_weights": {"buy": 1}},
    ]
    for parts in ways:
        got = answer(runner, query(wanted, filter=Range("rank", None, eligible), explain=True, **parts))
        assert len(set(list(got.item_ids))) == len(got.item_ids) == min(wanted, eligible)
        assert not len(got.item_ids) or np.max(got.item_ids) <= IDS[eligible - 1]
        assert got.explain["eligible"] == str(eligible)
        assert got.values.tolist() == sorted(got.values.tolist(), reverse=True)
        assert got.task_scores.shape == (len(got.item_ids), 3)


def test_the_best_results_are_those_of_float64_brute_force(runner: Runner) -> None:
    parts = vector(3, 3 * D)
    got = answer(runner, query(50, features=parts))
    similarities = (VECTORS.astype(np.float64) @ parts[QUERY_VECTOR].reshape(3, D).T.astype(np.float64)).max(
        1
    )
    assert list(got.item_ids) == IDS[np.argsort(-similarities)[:50]].tolist()
    assert got.similarities == pytest.approx(np.sort(similarities)[::-1][:50], abs=2e-3)
    assert (got.task_scores.max(1) == got.similarities).all()
    assert (got.values == got.similarities).all()


def test_one_vector_stands_for_every_task(runner: Runner) -> None:
    one = vector()[QUERY_VECTOR]
    got = answer(runner, query(features={QUERY_VECTOR: one}))
    every = answer(runner, query(features={QUERY_VECTOR: np.tile(one, 3)}))
    assert bytes_of(got) == bytes_of(every)
    assert (got.task_scores == got.similarities[:, None]).all()


def test_weights_make_the_value_a_sum(runner: Runner) -> None:
    weights = {"watch": 2.0, "like": -0.5}
    got = answer(runner, query(30, features=vector(1, 3 * D), task_weights=weights))
    sums = got.task_scores[:, 0] * np.float32(-0.5) + got.task_scores[:, 1] * np.float32(2.0)
    assert (got.values == sums).all()
    named = query(30, features=vector(1, 3 * D), task_weights=weights, value_formula="weighted")
    assert bytes_of(answer(runner, named)) == bytes_of(got)
    assert bytes_of(answer(runner, query(value_formula="similarity"))) == bytes_of(answer(runner, query()))


def test_history_is_left_out_unless_the_schema_keeps_it(runner: Runner, tmp_path: Path) -> None:
    keeping = Runner.open(publish(catalog(exclude_history=False), Store(tmp_path)), "shop")
    first = answer(runner, query(5)).item_ids
    unknown_too = np.append(first[:2], [7, 2**63 - 1, -(2**63)])
    got = answer(runner, query(5, history=unknown_too))
    assert list(got.item_ids)[:3] == list(first[2:])
    assert list(answer(keeping, query(5, history=unknown_too)).item_ids) == list(first)
    for either in (runner, keeping):
        left = list(answer(either, query(N, excluded_ids=unknown_too)).item_ids)
        assert len(left) == N - 2
        assert not set(left) & set(first[:2])


def test_a_history_of_unknown_items_is_no_history(runner: Runner) -> None:
    popular = IDS[::-1]
    for history in ([], [1, 2, 3], [2**63 - 1] * 600):
        one = query(7, features={}, history=np.array(history, np.int64), explain=True)
        got = answer(runner, one)
        assert list(got.item_ids) == popular[:7].tolist()
        assert got.explain["user"].startswith("nothing known")
        assert "exact" not in got.explain
    got = answer(runner, query(7, features={}, filter=Match("language", ("de",))))
    assert list(got.item_ids) == [i for i in popular.tolist() if (i + 2000) // 5 % 3 == 0][:7]
    assert got.similarities.tolist() == got.values.tolist() == got.task_scores[:, 1].tolist()


def test_the_newest_of_a_long_history_are_looked_at_and_all_left_out(runner: Runner) -> None:
    history = IDS[np.random.default_rng(0).permutation(N)[:1000]]
    got = answer(runner, query(N, features={}, history=history))
    newest = query(N, features={}, history=history[-HISTORY:], excluded_ids=history)
    assert len(got.item_ids) == N - 1000
    assert bytes_of(got) == bytes_of(answer(runner, newest))
    oldest = query(N, features={}, history=history[:HISTORY], excluded_ids=history)
    assert bytes_of(got) != bytes_of(answer(runner, oldest))


def test_a_vector_goes_before_the_history(runner: Runner) -> None:
    got = answer(runner, query(20, history=ids(1, 2, 3)))
    assert bytes_of(got) == bytes_of(answer(runner, query(20, excluded_ids=ids(1, 2, 3))))


def test_at_most_so_many_results_share_a_value(runner: Runner) -> None:
    got = answer(runner, query(N, max_per_value=MaxPerValue("tags", 2), fields=("tags",)))
    held = got.fields["tags"]
    _, counts = np.unique(np.array(held.values), return_counts=True)
    assert counts.max() == 2
    # A third has no tag and stays.
    assert sum(length == 0 for length in held.lengths.tolist()) == N / 3
    plain = list(answer(runner, query(N)).item_ids)
    assert [i for i in plain if i in set(list(got.item_ids))] == list(got.item_ids)


def test_fields_come_with_the_items(runner: Runner) -> None:
    names = tuple(f.name for f in FIELDS)
    got = answer(runner, query(N, fields=(*names, "title")))
    assert tuple(got.fields) == names
    places = ((np.asarray(got.item_ids) + 2000) // 5).tolist()
    expected: dict[str, list[list[Any]]] = {
        "title": [[f"title {i}"] if i % 2 else [] for i in places],
        "language": [LANGUAGES[i % 3] for i in places],
        "tags": [sorted({f"t{i % 80}", "é"} if i % 3 == 2 else [f"t{i % 80}"] * (i % 3)) for i in places],
        "rank": [[i] for i in places],
        "groups": [sorted([i % 4, 9][: i % 3]) for i in places],
        "price": [[[], [0.0], [math.inf], [0.1]][i % 4] for i in places],
    }
    for name, rows in expected.items():
        held = got.fields[name]
        assert held.lengths.tolist() == [len(row) for row in rows]
        assert list(held.values) == [value for row in rows for value in row]
    none = answer(runner, query(filter=Not(Exists("rank")), fields=names))
    assert all(not len(held.lengths) and not len(held.values) for held in none.fields.values())


def test_explain_says_what_was_searched(folder: Path, runner: Runner) -> None:
    one = query(explain=True, filter=Match("language", ("en",)))
    # Which items the sample holds follows from where the build put them: 1,024 at even distances.
    places = Snapshot.open(folder).index["rows"].numpy()[(2 * np.arange(1024) + 1) * N // 2048]
    estimated = int((places % 3 == 1).sum()) / 1024
    assert dict(answer(runner, one).explain) == {
        "user": "known",
        "items": "1200",
        "eligible": "400",
        "pass_rate": "0.333333",
        "estimated_pass_rate": f"{estimated:.6f}",
        "plan": "exact over survivors",
        **{f"{task}.clusters_opened": "50 of 50" for task in ("like", "watch", "buy")},
        **{f"{task}.items_scored": "400" for task in ("like", "watch", "buy")},
        "exact": "true",
    }
    assert answer(runner, replace(one, explain=False)).explain == {}


@pytest.mark.parametrize(
    ("parts", "path", "message"),
    [
        ({"features": {QUERY_VECTOR: ("a",)}}, 'features["query_vector"]', "a list of floats"),
        ({"features": {QUERY_VECTOR: np.arange(D)}}, 'features["query_vector"]', "holds no floats"),
        ({"features": vector(0, 9)}, 'features["query_vector"]', "has 9 values; expected 8, or 24 for"),
        ({"features": vector(0, 0)}, 'features["query_vector"]', "has 0 values"),
        ({"features": vector(0, 16)}, 'features["query_vector"]', "has 16 values"),
        ({"task_weights": {"lik": 1.0}}, 'task_weights["lik"]', "did you mean 'like'"),
        ({"task_weights": {"like": 1.0}, "value_formula": "similarity"}, "task_weights", "takes no weights"),
        ({"value_formula": "weighted"}, "task_weights", "needs the weight"),
        ({"task_weights": {"buy": -1e300}}, 'task_weights["buy"]', "must lie between"),
        ({"task_weights": {"buy": math.nan}}, 'task_weights["buy"]', "must be a finite number"),
        ({"max_per_value": MaxPerValue("langage", 1)}, "max_per_value.field", "did you mean 'language'"),
        ({"max_per_value": MaxPerValue("title", 1)}, "max_per_value.field", "no filterable field 'title'"),
        ({"fields": ("rank", "x")}, "fields[1]", "no field 'x'; known: groups, language"),
        ({"filter": Not(Range("tags", 1))}, "filter.not.range.field", "a range needs a field of one number"),
    ],
)
def test_what_does_not_fit_is_named(runner: Runner, parts: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        runner.prepare(checked(query(**parts)))
    assert caught.value.path == path
    assert message in str(caught.value)


def test_an_unknown_formula_is_named(runner: Runner) -> None:
    with pytest.raises(UnknownName, match="no value formula 'weigthed'; did you mean 'weighted'"):
        runner.prepare(query(value_formula="weigthed"))


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ({"max_results": 0}, "max_results"),
        ({"max_results": -1}, "max_results"),
        ({"max_results": 2.5}, "max_results"),
        ({"max_results": "10"}, "max_results"),
        ({"max_results": True}, "max_results"),
        ({"max_results": None}, "max_results"),
        ({"max_per_value": MaxPerValue("language", 0)}, "max_per_value.limit"),
        ({"task_weights": {"like": math.nan}}, 'task_weights["like"]'),
        ({"features": {QUERY_VECTOR: np.full(D, np.inf, np.float32)}}, f'features["{QUERY_VECTOR}"][0]'),
        ({"filter": Range("rank", math.nan)}, "filter.range.min"),
        ({"filter": Match("language")}, "filter.match"),
    ],
)
def test_what_no_caller_may_ask_python_may_not_either(
    runner: Runner, parts: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidQuery) as caught:
        runner.prepare(checked(replace(Query("shop", 10), **parts)))
    assert caught.value.path == path


def test_calls_of_parts_are_checked_too(runner: Runner) -> None:
    vector = np.full(D, np.nan, np.float32)
    with pytest.raises(InvalidQuery, match="k: must be at least 1, got 0"):
        runner.prepare_search(checked(SearchQuery("shop", 0, (np.ones(D, np.float32),))))
    with pytest.raises(InvalidQuery, match=r"queries\[0\]\[0\]"):
        runner.prepare_search(checked(SearchQuery("shop", 5, (vector,))))
    with pytest.raises(InvalidQuery, match="task_weights"):
        runner.prepare_score(checked(ScoreQuery("shop", User(), IDS[:3], {"like": math.inf})))
    with pytest.raises(InvalidQuery, match=r"users\[0\].features"):
        runner.prepare_embed(checked(EmbedQuery("shop", (User(features={"x": vector}),))))


def test_more_results_than_a_server_allows_are_no_fault(runner: Runner) -> None:
    (answer,) = runner.run([runner.prepare(Query("shop", 20_000))])
    assert len(answer.item_ids) == N
