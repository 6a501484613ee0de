"""Eligibility on exact columns, values and titles of a snapshot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meshfold.compat.mesh_messages import encode_request
from meshfold.compat.shadow.catalog import SnapshotCatalog
from meshfold.compat.shadow.pairs import Pair
from meshfold.model.build import publish
from meshfold.model.errors import SnapshotRefused
from meshfold.model.store import Store
from tests.compat.shadow.attribution_world import FILTER, SURFACE, catalog_of, query_of

ITEMS = 60


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    publish(catalog_of(range(ITEMS)), Store(root))
    return root


@pytest.fixture(scope="module")
def catalog(store: Path) -> SnapshotCatalog:
    return SnapshotCatalog.open(store, SURFACE)


def admitted(item: int) -> bool:
    """What FILTER says of an item of the catalog."""
    return item % 20 >= 10 and not (item % 3 == 0 and item % 7)


def test_violations_are_counted_on_the_exact_columns(catalog: SnapshotCatalog) -> None:
    pair = Pair("1", SURFACE, request=encode_request(query_of(0, FILTER)))
    wrong = [item for item in range(ITEMS) if not admitted(item)]
    assert 0 < len(wrong) < ITEMS
    assert catalog.violations(pair, range(ITEMS)) == len(wrong)
    assert catalog.violations(pair, [item for item in range(ITEMS) if admitted(item)]) == 0
    assert catalog.violations(replace(pair, request=b"", filter=FILTER), range(ITEMS)) == len(wrong)


def test_excluded_items_and_the_history_are_violations(catalog: SnapshotCatalog) -> None:
    query = query_of(0, history=np.array([1, 2]), excluded_ids=np.array([2, 3]))
    pair = Pair("1", SURFACE, request=encode_request(query))
    assert catalog.violations(pair, [1, 2, 3, 4]) == 3


def test_items_that_the_snapshot_lacks_are_no_violations(catalog: SnapshotCatalog) -> None:
    pair = Pair("1", SURFACE, filter="year >= 3000")
    assert catalog.violations(pair, [5, ITEMS + 5, -1]) == 1
    assert catalog.violations(pair, ["5", "x"]) == 0
    assert (catalog.known([5, ITEMS + 5, -1]), catalog.known(["5", "x"])) == (1, 0)


@pytest.mark.parametrize("filter_", [None, 'colour == "red"', "year >"])
def test_a_filter_that_is_unknown_or_does_not_fit_tells_nothing(
    catalog: SnapshotCatalog, filter_: str | None
) -> None:
    assert catalog.violations(Pair("1", SURFACE, filter=filter_), [5]) is None
    assert catalog.violations(Pair("1", SURFACE, request=b"\xff"), [5]) is None


def test_no_filter_admits_everything(catalog: SnapshotCatalog) -> None:
    assert catalog.violations(Pair("1", SURFACE, filter=""), [5]) == 0


def test_values_and_titles_are_those_of_the_data(catalog: SnapshotCatalog) -> None:
    assert list(catalog.fields) == ["genre", "tags"]
    assert catalog.values(8, "genre") == ("g2",)
    assert sorted(catalog.values(8, "tags")) == ["t3", "t8"]
    assert catalog.values(8, "year") == ("1988",)
    assert catalog.values(8, "price") == ("2",)
    assert catalog.values(7, "genre") == ()  # it lacks the field
    assert catalog.values(8, "colour") == ()
    assert catalog.values(ITEMS, "genre") == ()
    text = catalog.text(8)
    assert text.title == "film 8"
    assert text.fields == {"genre": "g2", "tags": "t3, t8", "year": "1988", "price": "2"}
    assert catalog.text(ITEMS).title == ""
    assert "genre" not in catalog.text(7).fields


def test_a_store_without_the_surface_is_refused(store: Path) -> None:
    with pytest.raises(SnapshotRefused, match="holds no snapshot of surface 'music'; publish one"):
        SnapshotCatalog.open(store, "music")
