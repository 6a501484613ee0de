from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meshfold.compat.mesh.items import Items
from meshfold.compat.mesh.retrieval import Retrieval
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import Expression, Match, Range
from meshfold.model.types import Float32s, Int64s, Neighbours, SearchQuery

# From none to all of the items: one by one, behind a selector, and without one.
FILTERS: list[Expression | None] = [
    None,
    Range("year", minimum=-60.0),
    Match("language", ("l0",)),
    Match("tags", ("t7",)),
    Match("tags", ("nobody",)),
]
CLOSE = 1e-4


@pytest.fixture(scope="module", params=[True, False], ids=["exact", "ivf"])
def retrieval(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Retrieval:
    return Retrieval.open(folder, "shop", tmp_path_factory.mktemp("indices"), 500, request.param)


def query(
    k: int, filter_: Expression | None = None, excluded: Int64s | None = None, vectors: int = 2
) -> SearchQuery:
    asked = np.random.default_rng(4).standard_normal((vectors, 8)).astype(np.float32)
    no_ids = np.empty(0, np.int64)
    return SearchQuery("shop", k, tuple(asked), filter_, no_ids if excluded is None else excluded)


def answer(retrieval: Retrieval, asked: SearchQuery) -> Neighbours:
    (found,) = retrieval.search([retrieval.prepare_search(asked)])
    return found


def eligible(items: Items, filter_: Expression | None, excluded: Int64s) -> Int64s:
    """Rows by brute force, of the columns as conftest.py makes them."""
    ids = items.ids.keys()
    passes = {
        None: np.ones(len(ids), bool),
        FILTERS[1]: ids % 7 != 2,
        FILTERS[2]: (ids % 7 != 0) & (ids % 2 == 0),
        FILTERS[3]: (ids % 7 != 1) & (ids % 900 == 7),
        FILTERS[4]: np.zeros(len(ids), bool),
    }[filter_]
    return np.flatnonzero(passes & ~np.isin(ids, excluded))


@pytest.mark.parametrize("filter_", FILTERS, ids=str)
@pytest.mark.parametrize("excluded", [0, 100, 1000])
@pytest.mark.parametrize("k", [1, 30, 3000])
def test_neighbours_are_eligible_as_many_as_there_are_and_in_order(
    retrieval: Retrieval, items: Items, filter_: Expression | None, excluded: int, k: int
) -> None:
    left_out = np.append(items.ids.keys()[:excluded], [-1])
    rows = eligible(items, filter_, left_out)
    asked = query(k, filter_, left_out)
    found = answer(retrieval, asked)
    for vector, ids, similarities in zip(asked.queries, found.item_ids, found.similarities, strict=True):
        assert len(ids) == len(similarities) == min(k, len(rows))
        assert np.isin(ids, items.ids.keys()[rows]).all()
        assert len(np.unique(ids)) == len(ids)
        assert in_order(np.asarray(ids), similarities)
        if retrieval_is_exact(retrieval) and len(rows):
            wanted = np.sort(items.vectors.numpy()[rows] @ vector)[::-1][:k]
            np.testing.assert_allclose(similarities, wanted, atol=CLOSE)


def in_order(ids: Int64s, similarities: Float32s) -> bool:
    """Best first, and the smaller id first where two are equal."""
    falls = similarities[1:] < similarities[:-1]
    return bool((falls | ((similarities[1:] == similarities[:-1]) & (ids[1:] > ids[:-1]))).all())


def retrieval_is_exact(retrieval: Retrieval) -> bool:
    return type(retrieval._nearest).__name__ == "Flat"


@pytest.mark.parametrize("filter_", FILTERS, ids=str)
def test_of_nobody_the_most_popular_eligible_items_come(
    retrieval: Retrieval, items: Items, filter_: Expression | None
) -> None:
    excluded = items.ids.keys()[:40]
    asked = SearchQuery("shop", 20, (np.zeros(8, np.float32),), filter_, excluded)
    rows = eligible(items, filter_, excluded)
    wanted = rows[np.lexsort((rows, -items.popularity[rows]))][:20]
    found = answer(retrieval, asked)
    assert np.asarray(found.item_ids[0]).tolist() == items.ids.keys()[wanted].tolist()
    assert found.similarities[0].tolist() == items.popularity[wanted].tolist()


def test_vectors_of_another_length_are_refused_and_none_find_nothing(retrieval: Retrieval) -> None:
    with pytest.raises(InvalidQuery, match=r"queries\[1\]: has 3 values; expected 8"):
        retrieval.prepare_search(SearchQuery("shop", 5, (np.zeros(8, np.float32), np.zeros(3, np.float32))))
    assert answer(retrieval, SearchQuery("shop", 5, ())).item_ids == ()


def test_probes_follow_the_recall_that_is_set(folder: Path, tmp_path: Path) -> None:
    def opened(recall: float) -> Retrieval:
        return Retrieval.open(folder, "shop", tmp_path, 20, exact=False, recall=recall)

    low, measured, all_lists = (opened(recall)._nearest for recall in (0.1, 0.0, 1.0))
    assert low.few < all_lists.few
    assert low.few <= measured.few <= all_lists.few
    # A file for each, so that none is taken for another.
    assert len([*tmp_path.glob("*.faiss")]) == 3
    assert opened(0.1)._nearest.few == low.few
