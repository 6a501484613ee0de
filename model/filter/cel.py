"""From CEL's syntax tree to a filter's expression."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Sequence
from threading import Lock
from typing import TYPE_CHECKING, cast

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.filter.source import Source

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

    Node = Tree[Token]

MAX_DEPTH = 64

_SUPPORTED = "a filter has == != < <= > >= in && || ! has(field) at_least(count, ...) true and false"
_UNSUPPORTED = {
    "expr": "the conditional ? :",
    "addition": "arithmetic",
    "multiplication": "arithmetic",
    "unary_neg": "arithmetic",
    "member_dot": "access to a member",
    "member_dot_arg": "a method",
    "member_index": "an index",
    "member_object": "a message literal",
    "dot_ident": "a leading dot",
    "dot_ident_arg": "a leading dot",
    "list_lit": "a list other than in `field in [...]`",
    "map_lit": "a map",
    "UINT_LIT": "an unsigned integer",
    "BYTES_LIT": "a bytes literal",
    "NULL_LIT": "null",
}
_REMEDIES = {
    "relation": "; comparisons do not chain: write 1 < a && a < 5",
    "unary_not": "; ! takes the next operand alone: write !(a == 1)",
}
_OPERATORS = {"and": "&&", "or": "||", "not": "!", "=": "==", "&": "&&", "|": "||"}
_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}
_LEVELS = {"expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication", "unary"}
_WRAPPERS = _LEVELS | {"member", "primary", "paren_expr"}

# The parser builds its lexers on first use, and not for two threads at a time.
_lock = Lock()
_parsers: list[Lark] = []


def expression_of(source: Source) -> Expression:
    """The filter that a text says, as text.py describes the language. Raises InvalidQuery with the place."""
    return _filter(source, _tree(source), 1)


def _tree(source: Source) -> Node:
    from celpy.celparser import CELParser
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    try:
        with _lock:
            if not _parsers:
                CELParser()
                _parsers.append(cast("Lark", CELParser.CEL_PARSER))
            return _parsers[0].parse(source.blank)
    except UnexpectedCharacters as error:
        raise _misplaced(source, error.pos_in_stream or 0, error.char, error.allowed) from None
    except UnexpectedToken as error:
        if error.token.type == "$END":
            raise source.error(len(source.text), "a filter or an operand is missing") from None
        raise _misplaced(source, error.token.start_pos or 0, error.token, error.expected) from None


def _misplaced(source: Source, at: int, got: str, terminals: Container[str]) -> InvalidQuery:
    for word in (got, *source.blank[:at].split()[-1:]):
        if word in _OPERATORS:
            return source.error(at, f"write {_OPERATORS[word]} for {word}")
    wanted = "an operand" if "IDENT" in terminals else "an operator"
    return source.error(at, f"not expected here, where {wanted} could be")


def _filter(source: Source, node: Node, depth: int) -> Expression:
    node = _unwrapped(node)
    if depth > MAX_DEPTH:
        raise source.error(_start(node), f"filters must be nested at most {MAX_DEPTH} deep")
    match _kind(node):
        case "conditionaland":
            return All(tuple(_filter(source, term, depth + 1) for term in _terms(node)))
        case "conditionalor":
            return Any(tuple(_filter(source, term, depth + 1) for term in _terms(node)))
        case "unary_not":
            return Not(_filter(source, _child(node, 1), depth + 1))
        case "relation":
            return _comparison(source, node)
        case "ident_arg":
            return _call(source, node, depth)
        case "STRING_LIT" if isinstance(truth := source.literals[_start(node)], bool):
            return All() if truth else Any()
    raise _refusal(source, node, "a filter; compare the operand, as in a == 1, or write has(a)")


def _terms(node: Node) -> list[Node]:
    """The terms of a chain of one operator, in order. Its tree is as deep as the chain is long."""
    terms: list[Node] = []
    rest = [node]
    while rest:
        term = _unwrapped(rest.pop())
        if term.data == node.data:
            rest += [_child(term, 1), _child(term, 0)]
        else:
            terms.append(term)
    return terms


def _comparison(source: Source, node: Node) -> Expression:
    operator, right = _child(node, 0), _unwrapped(_child(node, 1))
    left = _unwrapped(_child(operator, 0))
    comparison = operator.data.removeprefix("relation_")
    if comparison == "in":
        end = operator.meta.end_pos
        if re.match(r"\w", source.text[end : end + 1]):  # The parser takes `a inb` for `a in b`.
            raise source.error(end - len("in"), "write a space after in")
        if right.data != "list_lit":
            return _match(source, left, _field(source, right), [_literal(source, left)])
        name = _field(source, left)
        return _match(source, right, name, [_literal(source, value) for value in _arguments(right)])
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
        raise source.error(_start(right), "only numbers are ordered; compare strings with ==, != or in")
    bound = float(literal)
    if bound != literal:
        raise source.error(_start(right), f"a bound is a float64, which cannot be {literal}; write {bound!r}")
    inclusive = comparison in ("le", "ge")
    if comparison in ("gt", "ge"):
        return Range(name, minimum=bound, inclusive=inclusive)
    return Range(name, maximum=bound, inclusive=inclusive)


def _match(source: Source, node: Node, name: str, values: Sequence[str | int | float]) -> Match:
    if not values:
        raise source.error(_start(node), "a match without values; list at least one, or write false")
    strings = tuple(value for value in values if isinstance(value, str))
    ints = tuple(value for value in values if isinstance(value, int))
    if len(values) not in (len(strings), len(ints)):
        raise source.error(_start(node), "the values of a match must be all strings or all integers")
    return Match(name, strings, ints)


def _call(source: Source, node: Node, depth: int) -> Expression:
    name, arguments = str(node.children[0]), _arguments(node)
    if name == "has":
        if len(arguments) != 1:
            raise source.error(_start(node), f"has takes one field, got {len(arguments)} arguments")
        return Exists(_field(source, _unwrapped(arguments[0])))
    if name == "at_least":
        count = _literal(source, arguments[0]) if arguments else None
        if not isinstance(count, int) or not 0 <= count < 2**31:
            raise source.error(_start(node), "at_least takes a count from 0 to 2147483647, then filters")
        return AtLeast(count, tuple(_filter(source, argument, depth + 1) for argument in arguments[1:]))
    raise source.error(_start(node), f"the function {name} is not supported; {_SUPPORTED}")


def _field(source: Source, node: Node) -> str:
    if node.data != "ident":
        raise _refusal(source, node, "the name of a field")
    return str(node.children[0])


def _literal(source: Source, node: Node) -> str | int | float:
    node = _unwrapped(node)
    kind, number, sign = _kind(node), node, ""
    if kind == "unary_neg":
        operand = _unwrapped(_child(node, 1))
        if _kind(operand) in ("INT_LIT", "FLOAT_LIT") and not str(operand.children[0]).startswith("-"):
            kind, number, sign = _kind(operand), operand, "-"
    if kind == "STRING_LIT" and isinstance(string := source.literals[_start(node)], str):
        return string
    if kind == "INT_LIT":
        digits = f"{sign}{number.children[0]}"
        # From 4,301 digits on, int() would raise ValueError.
        integer = int(digits, 16 if "x" in digits else 10) if len(digits) <= 64 else 2**63
        if not -(2**63) <= integer < 2**63:
            raise source.error(_start(node), "an integer must fit int64; write a number, such as 1e30")
        return integer
    if kind == "FLOAT_LIT":
        literal = float(f"{sign}{number.children[0]}")
        if math.isinf(literal):
            raise source.error(_start(node), f'a number must fit float64; infinity is double("{literal}")')
        return literal
    if kind == "ident_arg" and node.children[0] == "double":
        infinity = [_literal(source, argument) for argument in _arguments(node)]
        if infinity not in (["inf"], ["-inf"]):
            raise source.error(_start(node), 'double takes "inf" or "-inf"; write other numbers as 1.5')
        return float(infinity[0])
    raise _refusal(source, node, "a string or a number")


def _refusal(source: Source, node: Node, expected: str) -> InvalidQuery:
    kind = _kind(node)
    if kind in _UNSUPPORTED:
        return source.error(_start(node), f"{_UNSUPPORTED[kind]} is not supported; {_SUPPORTED}")
    return source.error(_start(node), f"expected {expected}{_REMEDIES.get(kind, '')}")


def _unwrapped(node: Node) -> Node:
    """The node within the levels of precedence and the parentheses that hold it alone."""
    while node.data in _WRAPPERS and len(node.children) == 1:
        node = _child(node, 0)
    return node


def _kind(node: Node) -> str:
    """What the node is: its rule, of a literal its token's type, of ! and - the operator."""
    if node.data == "literal":
        return cast("Token", node.children[0]).type
    return str(_child(node, 0).data) if node.data == "unary" else str(node.data)


def _child(node: Node, place: int) -> Node:
    return cast("Node", node.children[place])


def _arguments(node: Node) -> list[Node]:
    """The expressions of a list or of a call."""
    last = node.children[-1] if node.children else None
    return [] if last is None or isinstance(last, str) else [cast("Node", child) for child in last.children]


def _start(node: Node) -> int:
    return node.meta.start_pos
