"""The exact search against every item compared by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from meshfold.compat.shadow.attribution.exact import ExactIndex
from meshfold.compat.shadow.attribution.model_lists import ModelLists
from meshfold.compat.shadow.catalog import SnapshotCatalog, plain
from meshfold.kernels.vectors.quantize import quantize
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import QUERY_VECTOR, Query
from tests.compat.shadow.attribution_world import FILTER, ITEMS, D, K, exact, published, query_of, served

# All pass, a third, one in a hundred, none.
FILTERS = ("", FILTER, "price == 3.25", "year >= 3000")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return published(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def lists(snapshot: Snapshot) -> ModelLists:
    return ModelLists(snapshot)


def by_hand(snapshot: Snapshot, query: Query, depth: int) -> list[int]:
    """The ids of the most similar eligible items: in order, ties to the smaller id."""
    index = ExactIndex.of(snapshot)
    everything = torch.arange(ITEMS).unsqueeze(0)
    vector = torch.from_numpy(np.array(query.features[QUERY_VECTOR]))
    similarities = index.similarities(quantize(vector.view(1, 1, -1)), everything)[0, 0].numpy()
    passes = SnapshotCatalog(snapshot).passes(query.filter, np.arange(ITEMS))
    rows = snapshot.index["rows"].numpy()
    order = np.lexsort((rows, -similarities))
    ids = snapshot.item_ids().at(rows[order[passes[order]]].astype(np.int64))
    return [item for item in plain(ids)[:depth] if isinstance(item, int)]


@pytest.mark.parametrize("filter_", FILTERS)
def test_the_list_is_that_of_all_items_compared(snapshot: Snapshot, lists: ModelLists, filter_: str) -> None:
    for number in range(5):
        query = query_of(number, filter_)
        found = exact(lists, query)
        assert found.ids == by_hand(snapshot, query, lists.depth(query.max_results))
        assert found.values == sorted(found.values, reverse=True)


def test_queries_together_have_the_lists_of_each_alone(lists: ModelLists) -> None:
    queries = [query_of(n, FILTERS[n % len(FILTERS)]) for n in range(9)]
    together = lists.exact(queries)
    assert [r.ids for r in together] == [exact(lists, query).ids for query in queries]


def test_excluded_items_are_replaced(lists: ModelLists) -> None:
    query = query_of(0)
    best = exact(lists, query)
    excluded = np.array(best.ids[:10], np.int64)
    assert exact(lists, query_of(0, excluded_ids=excluded)).ids[: len(best.ids) - 10] == best.ids[10:]


def test_the_index_itself_misses_some(lists: ModelLists) -> None:
    missed = [len(exact(lists, q).top(20) - served(lists, q).top(20)) for q in map(query_of, range(10))]
    assert 0 < sum(missed) < 150


def test_a_user_of_whom_nothing_is_known_gets_the_most_popular_items(lists: ModelLists) -> None:
    query = Query("films", 5)
    assert exact(lists, query).ids[:5] == served(lists, query).ids[:5]


def test_values_of_items_are_those_of_the_list(lists: ModelLists) -> None:
    query = query_of(3)
    best = exact(lists, query)
    values = lists.values(query, [*best.ids[:7], ITEMS + 1])
    assert values == dict(zip(best.ids[:7], best.values[:7], strict=True))


def test_tasks_with_vectors_of_their_own_are_searched_and_merged(snapshot: Snapshot) -> None:
    """Beside the served model where it opens everything."""
    everything = ModelLists(replace(snapshot, content=replace(snapshot.content, scan_budget=ITEMS)))
    vectors = np.random.default_rng(5).standard_normal(2 * D).astype(np.float32)
    for filter_ in FILTERS:
        query = replace(query_of(0, filter_), features={QUERY_VECTOR: vectors})
        assert exact(everything, query).ids[:K] == served(everything, query).ids
