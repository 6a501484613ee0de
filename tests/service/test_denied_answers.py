"""Denied items are as excluded: in every call, for both kinds of ids, in any batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import meshfold
from meshfold.model.types import Query, ScoreQuery, SearchQuery, User
from meshfold.service.denied_positions import ids_of
from meshfold.service.runner import Runner

ITEMS, DIMENSION = 600, 8


class DeniedIds:
    """What is denied now."""

    def __init__(self) -> None:
        self.now: tuple[str, ...] = ()

    def __call__(self) -> tuple[str, ...]:
        return self.now


@pytest.fixture(scope="module", params=["integers", "strings"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(3)
    ids = np.arange(100, 100 + ITEMS) if request.param == "integers" else [f"item {i}" for i in range(ITEMS)]
    items = {"item_id": ids, "year": rng.integers(1980, 2000, ITEMS)}
    vectors = rng.standard_normal((ITEMS, DIMENSION)).astype(np.float32)
    return meshfold.build(items, vectors, store=tmp_path_factory.mktemp("store"))


@pytest.fixture
def denied() -> DeniedIds:
    return DeniedIds()


@pytest.fixture
def runner(folder: Path, denied: DeniedIds) -> Runner:
    return Runner.open(folder, "items", denied=denied)


def user(runner: Runner, *rows: int) -> User:
    return User(history=runner.some_ids(np.array(rows, np.int64)))


def listed(ids: object) -> list[str]:
    return [str(item) for item in ids]  # type: ignore[attr-defined]


def retrieved(runner: Runner, known: bool = True, **settings: object) -> list[str]:
    history = user(runner, 1, 2, 3).history if known else user(runner).history
    query = runner.prepare(Query("items", 20, history=history, **settings))  # type: ignore[arg-type]
    return listed(runner.run([query])[0].item_ids)


@pytest.mark.parametrize("known", [True, False])
def test_answers_have_as_many_items_and_those_that_an_exclusion_would_leave(
    runner: Runner, denied: DeniedIds, known: bool
) -> None:
    before = retrieved(runner, known)
    denied.now = (*before[::2], "unknown", "99999999999999999999", "-5")
    after = retrieved(runner, known)
    assert len(before) == len(after) == 20
    assert not set(after) & set(denied.now)
    assert after[:10] == before[1::2]
    # The same as where the caller excludes them.
    gone, denied.now = denied.now, ()
    excluded = ids_of([i for i in gone if i in before], runner.schema.ids)
    assert retrieved(runner, known, excluded_ids=excluded) == after


def test_a_change_holds_for_the_next_query_and_ends_when_it_is_undone(
    runner: Runner, denied: DeniedIds
) -> None:
    before = retrieved(runner)
    denied.now = (before[0],)
    assert retrieved(runner)[0] == before[1]
    denied.now = ()
    assert retrieved(runner) == before


def test_a_search_finds_none_and_none_has_a_score(runner: Runner, denied: DeniedIds) -> None:
    vector = np.ones(DIMENSION, np.float32)

    def found() -> list[str]:
        query = runner.prepare_search(SearchQuery("items", 10, (vector, -vector)))
        return [item for ids in runner.search([query])[0].item_ids for item in listed(ids)]

    before = found()
    denied.now = (before[0], before[10])
    assert len(found()) == 20
    assert not set(found()) & set(denied.now)
    known = runner.some_ids(np.arange(4))
    denied.now = (listed(known)[2],)
    query = ScoreQuery("items", user(runner, 9), known)
    scores = runner.score([runner.prepare_score(query)])[0]
    assert listed(scores.unknown_ids) == list(denied.now)
    assert listed(scores.item_ids) == [item for item in listed(known) if item not in denied.now]


def test_a_filter_of_few_items_and_nothing_but_denied_ones(runner: Runner, denied: DeniedIds) -> None:
    denied.now = tuple(listed(runner.some_ids(np.arange(ITEMS))))
    assert retrieved(runner) == []
    assert retrieved(runner, known=False) == []
    denied.now = denied.now[:-1]
    assert retrieved(runner) == listed(runner.some_ids(np.array([ITEMS - 1])))


def test_the_same_bytes_alone_and_in_a_batch(runner: Runner, denied: DeniedIds) -> None:
    denied.now = tuple(retrieved(runner)[:5])
    queries = [
        runner.prepare(Query("items", 1 + 7 * i, history=user(runner, i, i + 50).history)) for i in range(6)
    ]
    together = runner.run(queries)
    for query, answer in zip(queries, together, strict=True):
        alone = runner.run([query])[0]
        assert listed(alone.item_ids) == listed(answer.item_ids)
        assert alone.values.tobytes() == answer.values.tobytes()


def test_whether_a_snapshot_holds_items(runner: Runner) -> None:
    first = listed(runner.some_ids(np.array([0])))[0]
    assert runner.holds([first, "nothing", "-1", "9" * 30]) == [True, False, False, False]
