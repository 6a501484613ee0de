"""Finds the faulty filter that a side evaluated, where its answer has items that the request does not admit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from meshfold.compat.shadow.attribution.faulty_filter import without_parts
from meshfold.compat.shadow.attribution.ranking import Ranking
from meshfold.compat.shadow.catalog import Item, SnapshotCatalog
from meshfold.model.filter.expression import All
from meshfold.model.types import Query

# Most faulty filters whose lists are computed for one answer.
_MOST_TRIED = 3


def list_of_faulty_filter(
    catalog: SnapshotCatalog,
    query: Query,
    violators: Sequence[Item],
    answer: frozenset[Item],
    lists: Callable[[Sequence[Query]], list[Ranking]],
) -> Ranking | None:
    """The ranking by the faulty filter that explains an answer best. None where no faulty filter admits the violators.

    lists: computes the rankings of queries. Raises InvalidQuery where the filter does not fit the schema.
    """
    if query.filter is None or not violators:
        return None
    positions = catalog.positions(violators)
    admitting = [f for f in without_parts(query.filter) if catalog.passes(f, positions).all()][:_MOST_TRIED]
    if not admitting:
        return None
    tried = lists([replace(query, filter=None if f == All() else f) for f in admitting])
    # max() returns the first of equals, which is the likeliest fault.
    return max(tried, key=lambda ranking: len(ranking.top(query.max_results) & answer))
