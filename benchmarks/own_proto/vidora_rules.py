"""The rules that editors write, as filters: the one thing of this protocol that needs Python."""

from __future__ import annotations

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import All, Any, Expression, Match, Range


def expression(rules: str) -> Expression:
    """The filter of rules such as "year:1990..1999|genre:drama;country:se". Raises InvalidQuery."""
    return All(tuple(Any(tuple(_term(term) for term in group.split("|"))) for group in rules.split(";")))


def _term(term: str) -> Expression:
    name, colon, value = term.partition(":")
    match name:
        case "genre" | "country" if value:
            return Match(name, (value,))
        case "year":
            first, dots, last = value.partition("..")
            if dots and first.isdigit() and last.isdigit():
                return Range("year", float(first), float(last), inclusive=True)
    raise InvalidQuery(
        "rules", f"{term[:64]!r} is no rule; expected genre:NAME, country:NAME or year:FROM..TO"
    )
