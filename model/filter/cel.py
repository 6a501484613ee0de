"""The conversion of CEL's syntax tree to a filter's expression."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from meshfold.model.cel.language import Language
from meshfold.model.cel.source import Source
from meshfold.model.cel.syntax import arguments, child, kind_of, refusal, start_of, tree_of, unwrapped
from meshfold.model.errors import InvalidQuery, MeshfoldError
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range

if TYPE_CHECKING:
    from meshfold.model.cel.syntax import Node

FILTERS = Language(
    noun="filter",
    max_characters=16_384,
    shorten="list fewer values",
    max_brackets=64,
    max_depth=64,
    offer="a filter has == != < <= > >= in && || ! has(field) at_least(count, ...) true and false",
    lacks={
        "expr": "the conditional ? :",
        "addition": "arithmetic",
        "multiplication": "arithmetic",
        "unary_neg": "arithmetic",
        "member_dot": "access to a member",
        "list_lit": "a list other than in `field in [...]`",
    },
)

_REMEDIES = {
    "relation": "; comparisons do not chain: write 1 < a && a < 5",
    "unary_not": "; ! takes the next operand alone: write !(a == 1)",
}
_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}


def expression_of(text: str) -> Expression:
    """Parses a filter in the language of text.py. Raises InvalidQuery with the place of an error."""
    source = Source.of(text, FILTERS, partial(InvalidQuery, "filter"))
    return _filter(source, tree_of(source), 1)


def _filter(source: Source, node: Node, depth: int) -> Expression:
    node = unwrapped(node)
    if depth > FILTERS.max_depth:
        raise source.error(start_of(node), f"filters must be nested at most {FILTERS.max_depth} deep")
    match kind_of(node):
        case "conditionaland":
            return All(tuple(_filter(source, term, depth + 1) for term in _terms(node)))
        case "conditionalor":
            return Any(tuple(_filter(source, term, depth + 1) for term in _terms(node)))
        case "unary_not":
            return Not(_filter(source, child(node, 1), depth + 1))
        case "relation":
            return _comparison(source, node)
        case "ident_arg":
            return _call(source, node, depth)
        case "STRING_LIT" if isinstance(truth := source.literals[start_of(node)], bool):
            return All() if truth else Any()
    raise _refusal(source, node, "a filter; compare the operand, as in a == 1, or write has(a)")


def _terms(node: Node) -> list[Node]:
    """The terms of a chain of one operator, in order. The parser's tree nests one level for each operator."""
    terms: list[Node] = []
    rest = [node]
    while rest:
        term = unwrapped(rest.pop())
        if term.data == node.data:
            rest += [child(term, 1), child(term, 0)]
        else:
            terms.append(term)
    return terms


def _comparison(source: Source, node: Node) -> Expression:
    operator, right = child(node, 0), unwrapped(child(node, 1))
    left = unwrapped(child(operator, 0))
    comparison = operator.data.removeprefix("relation_")
    if comparison == "in":
        end = operator.meta.end_pos
        if re.match(r"\w", source.text[end : end + 1]):  # The parser reads `a inb` as `a in b`.
            raise source.error(end - len("in"), "write a space after in")
        if right.data != "list_lit":
            return _match(source, left, _field(source, right), [_literal(source, left)])
        name = _field(source, left)
        return _match(source, right, name, [_literal(source, value) for value in arguments(right)])
    if right.data == "ident" and left.data != "ident":
        left, right, comparison = right, left, _MIRRORED[comparison]
    name, literal = _field(source, left), _literal(source, right)
    if comparison in ("eq", "ne"):
        equal: Expression
        if isinstance(literal, float):
            equal = Range(name, literal, literal, inclusive=True)
        else:
            equal = _match(source, right, name, [literal])
        return equal if comparison == "eq" else Not(equal)
    if isinstance(literal, str):
        raise source.error(start_of(right), "only numbers are ordered; compare strings with ==, != or in")
    bound = float(literal)
    if bound != literal:
        raise source.error(
            start_of(right), f"a bound is a float64, which cannot be {literal}; write {bound!r}"
        )
    inclusive = comparison in ("le", "ge")
    if comparison in ("gt", "ge"):
        return Range(name, minimum=bound, inclusive=inclusive)
    return Range(name, maximum=bound, inclusive=inclusive)


def _match(source: Source, node: Node, name: str, values: Sequence[str | int | float]) -> Match:
    if not values:
        raise source.error(start_of(node), "a match without values; list at least one, or write false")
    strings = tuple(value for value in values if isinstance(value, str))
    ints = tuple(value for value in values if isinstance(value, int))
    if len(values) not in (len(strings), len(ints)):
        raise source.error(start_of(node), "the values of a match must be all strings or all integers")
    return Match(name, strings, ints)


def _call(source: Source, node: Node, depth: int) -> Expression:
    name, given = str(node.children[0]), arguments(node)
    if name == "has":
        if len(given) != 1:
            raise source.error(start_of(node), f"has takes one field, got {len(given)} arguments")
        return Exists(_field(source, unwrapped(given[0])))
    if name == "at_least":
        count = _literal(source, given[0]) if given else None
        if not isinstance(count, int) or not 0 <= count < 2**31:
            raise source.error(start_of(node), "at_least takes a count from 0 to 2147483647, then filters")
        return AtLeast(count, tuple(_filter(source, argument, depth + 1) for argument in given[1:]))
    raise source.error(start_of(node), f"the function {name} is not supported; {FILTERS.offer}")


def _field(source: Source, node: Node) -> str:
    if node.data != "ident":
        raise _refusal(source, node, "the name of a field")
    return str(node.children[0])


def _literal(source: Source, node: Node) -> str | int | float:
    node = unwrapped(node)
    kind, number, sign = kind_of(node), node, ""
    if kind == "unary_neg":
        operand = unwrapped(child(node, 1))
        if kind_of(operand) in ("INT_LIT", "FLOAT_LIT") and not str(operand.children[0]).startswith("-"):
            kind, number, sign = kind_of(operand), operand, "-"
    if kind == "STRING_LIT" and isinstance(string := source.literals[start_of(node)], str):
        return string
    if kind == "INT_LIT":
        digits = f"{sign}{number.children[0]}"
        # From 4,301 digits on, int() would raise ValueError.
        integer = int(digits, 16 if "x" in digits else 10) if len(digits) <= 64 else 2**63
        if not -(2**63) <= integer < 2**63:
            raise source.error(start_of(node), "an integer must fit int64; write a number, such as 1e30")
        return integer
    if kind == "FLOAT_LIT":
        literal = float(f"{sign}{number.children[0]}")
        if math.isinf(literal):
            raise source.error(start_of(node), f'a number must fit float64; infinity is double("{literal}")')
        return literal
    if kind == "ident_arg" and node.children[0] == "double":
        infinity = [_literal(source, argument) for argument in arguments(node)]
        if infinity not in (["inf"], ["-inf"]):
            raise source.error(start_of(node), 'double takes "inf" or "-inf"; write other numbers as 1.5')
        return float(infinity[0])
    raise _refusal(source, node, "a string or a number")


def _refusal(source: Source, node: Node, expected: str) -> MeshfoldError:
    return refusal(source, node, f"{expected}{_REMEDIES.get(kind_of(node), '')}")
