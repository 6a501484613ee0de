"""Faulty filters: filters that a side may have evaluated in place of the request's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from meshfold.model.filter.expression import All, Any, AtLeast, Expression, Not

# Most faulty filters of one request.
MOST = 12


def without_parts(expression: Expression) -> list[Expression]:
    """The filter with parts of it ignored, the likeliest faults first: without any `not`, each `not` read as its
    operand, without one condition, without all conditions. Each once; at most MOST."""
    tried: list[Expression] = []
    for candidate in _candidates(expression):
        if candidate != expression and candidate not in tried:
            tried.append(candidate)
        if len(tried) == MOST:
            break
    return tried


def _candidates(expression: Expression) -> Iterator[Expression]:
    yield _each_not(expression, keep=False)
    yield _each_not(expression, keep=True)
    yield from _less_one(expression)
    yield All()


def _each_not(node: Expression, keep: bool) -> Expression:
    """The filter without `not`. keep: whether the operand of `not` stays as a condition; else it is dropped."""
    match node:
        case Not(inner):
            return _each_not(inner, keep) if keep else All()
        case All(filters) | Any(filters) | AtLeast(_, filters):
            return replace(node, filters=tuple(_each_not(f, keep) for f in filters))
    return node


def _less_one(node: Expression) -> Iterator[Expression]:
    """The filters that lack one condition, for each condition."""
    match node:
        case All(filters) | Any(filters):
            for place, inner in enumerate(filters):
                yield replace(node, filters=filters[:place] + filters[place + 1 :])
                for changed in _less_one(inner):
                    yield replace(node, filters=(*filters[:place], changed, *filters[place + 1 :]))
        case Not(inner):
            for changed in _less_one(inner):
                yield Not(changed)
