"""What a request costs, told from its size before anything is computed."""

from __future__ import annotations

from meshfold.model.types import RequestSize

# Seconds on one core of an AMD EPYC of 2023. Another machine differs by a factor, which is measured while it serves.
_REQUEST_S = 2e-3
_USER_S = 5e-4
_CANDIDATE_S = 1e-6
_RESULT_S = 1.5e-6
_VALUE_S = 2e-7
# Of an item: scored by a query vector; looked at by one part of a filter.
_SCORED_ITEM_S = 1e-9
_FILTERED_ITEM_S = 6e-10
# A request of usual size, which others are compared with.
_USUAL_RESULTS, _USUAL_HISTORY, _USUAL_FILTER = 1000, 100, 8


def price_s(size: RequestSize, items: int, candidates: int) -> float:
    """Seconds of one core. items: of the catalog. candidates: that a query has at least."""
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
    """Of a request for the usual number of results with a filter of a few parts."""
    size = RequestSize(
        surface="", max_results=_USUAL_RESULTS, history=_USUAL_HISTORY, filter_nodes=_USUAL_FILTER
    )
    return price_s(size, items, candidates)
