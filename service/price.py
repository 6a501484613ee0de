"""The price of a request: its computing time, estimated from its size before anything is computed."""

from __future__ import annotations

from meshfold.model.types import RequestSize

# Seconds on one core of an AMD EPYC of 2023. ServiceTimes measures the factor of another machine.
_REQUEST_S = 2e-3
_USER_S = 5e-4
_CANDIDATE_S = 1e-6
_RESULT_S = 1.5e-6
_VALUE_S = 2e-7
# Seconds for an item: scoring by one query vector; one part of a filter.
_SCORED_ITEM_S = 1e-9
_FILTERED_ITEM_S = 6e-10
# The size of a usual request: results, items of the history, parts of the filter.
_USUAL_RESULTS, _USUAL_HISTORY, _USUAL_FILTER = 1000, 100, 8


def price_s(size: RequestSize, items: int, candidates: int) -> float:
    """The price in seconds of one core. items: number of items. candidates: the fewest candidates of a query."""
    found = max(candidates, size.max_results + size.max_results // 4) if size.max_results else 0
    values = size.history + size.excluded + size.feature_values + size.filter_values
    return (
        _REQUEST_S
        + _USER_S * size.users
        + _CANDIDATE_S * (min(found, items) + size.item_ids)
        + _RESULT_S * size.max_results * max(1, size.query_vectors)
        + _VALUE_S * values
        + items * (_SCORED_ITEM_S * max(1, size.query_vectors) + _FILTERED_ITEM_S * size.filter_nodes)
    )


def usual_price_s(items: int, candidates: int) -> float:
    """The price of a usual request, in seconds of one core."""
    size = RequestSize(
        surface="", max_results=_USUAL_RESULTS, history=_USUAL_HISTORY, filter_nodes=_USUAL_FILTER
    )
    return price_s(size, items, candidates)
