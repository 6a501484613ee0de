from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from meshfold.model.types import RequestSize
from meshfold.service.price import price_s, usual_price_s

ITEMS, CANDIDATES = 100_000, 4096
USUAL = RequestSize("shop", max_results=1000, history=100, filter_nodes=8, users=1)
# What makes a request dearer, and by how much it may grow within the limits.
DEARER = {
    "max_results": 10_000,
    "filter_nodes": 512,
    "filter_values": 10_000,
    "history": 10_000,
    "excluded": 10_000,
    "feature_values": 16_384,
    "item_ids": 10_000,
    "users": 64,
    "query_vectors": 32,
}


def with_part(part: str, count: int) -> RequestSize:
    changes: dict[str, Any] = {part: count}
    return replace(USUAL, **changes)


@pytest.mark.parametrize("part", DEARER)
def test_whatever_a_request_asks_more_of_makes_it_dearer(part: str) -> None:
    prices = [
        price_s(with_part(part, count), ITEMS, CANDIDATES)
        for count in (getattr(USUAL, part), DEARER[part] // 2, DEARER[part])
    ]
    assert prices == sorted(prices)
    assert prices[0] < prices[2]


def test_every_count_of_a_request_has_a_price() -> None:
    # The features' names and the bytes are counted by their values.
    assert {f.name for f in fields(RequestSize)} - {*DEARER} == {"surface", "features", "bytes"}


def test_what_is_looked_at_in_every_item_costs_by_the_items() -> None:
    wide = replace(USUAL, filter_nodes=500)
    small, large = price_s(wide, 1000, 1000), price_s(wide, 1_000_000, 1000)
    assert large > 50 * small
    # No more candidates than items.
    assert price_s(USUAL, 500, 500) == price_s(USUAL, 500, 100_000)


def test_nothing_is_free_and_the_usual_request_is_the_measure() -> None:
    assert price_s(RequestSize(), 0, 0) > 0
    assert price_s(RequestSize(), ITEMS, CANDIDATES) < usual_price_s(ITEMS, CANDIDATES)
    usual = price_s(replace(USUAL, users=0), ITEMS, CANDIDATES)
    assert usual_price_s(ITEMS, CANDIDATES) == usual
