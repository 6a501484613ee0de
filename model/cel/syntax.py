"""The parser of CEL texts, and access to its syntax trees."""

from __future__ import annotations

from collections.abc import Container
from threading import Lock
from typing import TYPE_CHECKING, cast

from meshfold.model.cel.source import Source
from meshfold.model.errors import MeshfoldError

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

    Node = Tree[Token]

_OPERATORS = {"and": "&&", "or": "||", "not": "!", "=": "==", "&": "&&", "|": "||"}
_LEVELS = {"expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication", "unary"}
_WRAPPERS = _LEVELS | {"member", "primary", "paren_expr"}

# The parser builds its lexers at the first use, which is not thread-safe.
_lock = Lock()
_parsers: list[Lark] = []


def tree_of(source: Source) -> Node:
    """The syntax tree of a text. Raises the source's fault with the place of a syntax error."""
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
            missing = f"a {source.language.noun} or an operand is missing"
            raise source.error(len(source.text), missing) from None
        raise _misplaced(source, error.token.start_pos or 0, error.token, error.expected) from None


def _misplaced(source: Source, at: int, got: str, terminals: Container[str]) -> MeshfoldError:
    for word in (got, *source.blank[:at].split()[-1:]):
        if word in _OPERATORS:
            return source.error(at, f"write {_OPERATORS[word]} for {word}")
    expected = "an operand" if "IDENT" in terminals else "an operator"
    return source.error(at, f"expected {expected} here")


def refusal(source: Source, node: Node, expected: str) -> MeshfoldError:
    """The fault of a node that the language lacks, or that is in the place of `expected`."""
    unsupported = source.language.unsupported(kind_of(node))
    return source.error(start_of(node), unsupported or f"expected {expected}")


def unwrapped(node: Node) -> Node:
    """The innermost node, without levels of precedence and parentheses that contain it alone."""
    while node.data in _WRAPPERS and len(node.children) == 1:
        node = child(node, 0)
    return node


def kind_of(node: Node) -> str:
    """The kind of a node: a literal's token type, the operator of ! and -, otherwise the rule."""
    if node.data == "literal":
        return cast("Token", node.children[0]).type
    return str(child(node, 0).data) if node.data == "unary" else str(node.data)


def child(node: Node, place: int) -> Node:
    return cast("Node", node.children[place])


def arguments(node: Node) -> list[Node]:
    """The expressions of a list or of a call."""
    last = node.children[-1] if node.children else None
    return [] if last is None or isinstance(last, str) else [cast("Node", each) for each in last.children]


def start_of(node: Node) -> int:
    return node.meta.start_pos
