"""Filters between messages and the expression tree, for every protocol whose Filter has the mesh's shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.protos.mesh.v1 import types_pb2 as mesh
from meshfold.protos.meshfold.v1 import retrieval_pb2 as native

FilterMessage = mesh.Filter | native.Filter

# Parsers of protobuf give up at 100 messages within one another; a filter in a list takes two.
DEEPEST = 48
# What decoding costs is bounded here; a server's limits, checked on the tree, are far below.
MOST_PARTS = 100_000


def decode_filter(message: FilterMessage) -> Expression:
    """The expression of a Filter message. Raises InvalidQuery with the path of a filter that sets nothing.

    Recursion is as deep as the parser lets messages be.
    """
    return _decode(message, "filter", count(1))


def _decode(message: FilterMessage, path: str, parts: Iterator[int]) -> Expression:
    if next(parts) > MOST_PARTS:
        raise InvalidQuery("filter", f"has more than {MOST_PARTS} parts; use fewer")
    kind = message.WhichOneof("kind")
    if kind is None:
        raise InvalidQuery(path, "none of match, range, exists, all, any, at_least and not is set; set one")
    part = getattr(message, kind)  # `not` is a keyword
    match kind:
        case "match":
            return Match(part.field, tuple(part.strings), tuple(part.ints))
        case "range":
            minimum = part.min if part.HasField("min") else None
            maximum = part.max if part.HasField("max") else None
            return Range(part.field, minimum, maximum, part.inclusive)
        case "exists":
            return Exists(part.field)
        case "not":
            return Not(_decode(part, f"{path}.not", parts))
        case "all":
            return All(_decode_list(part.filters, f"{path}.all", parts))
        case "any":
            return Any(_decode_list(part.filters, f"{path}.any", parts))
        case "at_least":
            return AtLeast(part.count, _decode_list(part.filters, f"{path}.at_least", parts))
    raise InvalidQuery(path, f"{kind} is no filter that this server knows")


def _decode_list(
    messages: Iterable[FilterMessage], path: str, parts: Iterator[int]
) -> tuple[Expression, ...]:
    return tuple(_decode(m, f"{path}.filters[{i}]", parts) for i, m in enumerate(messages))


def encode_filter(expression: Expression, message: FilterMessage, depth: int = 1) -> None:
    """Fills an empty Filter message. Raises InvalidQuery where no parser would take the message again."""
    if depth > DEEPEST:
        raise InvalidQuery("filter", f"filters lie more than {DEEPEST} deep in one another; flatten it")
    match expression:
        case Match(field, strings, ints):
            message.match.field = field
            message.match.strings.extend(strings)
            message.match.ints.extend(ints)
        case Range(field, minimum, maximum, inclusive):
            message.range.field = field
            if minimum is not None:
                message.range.min = minimum
            if maximum is not None:
                message.range.max = maximum
            message.range.inclusive = inclusive
        case Exists(field):
            message.exists.SetInParent()
            message.exists.field = field
        case Not(inner):
            encode_filter(inner, getattr(message, "not"), depth + 1)
        case All(filters):
            message.all.SetInParent()
            _encode_list(filters, message.all, depth)
        case Any(filters):
            message.any.SetInParent()
            _encode_list(filters, message.any, depth)
        case AtLeast(count, filters):
            message.at_least.SetInParent()
            message.at_least.count = count
            _encode_list(filters, message.at_least, depth)


def _encode_list(
    filters: Sequence[Expression],
    message: mesh.All | mesh.Any | mesh.AtLeast | native.All | native.Any | native.AtLeast,
    depth: int,
) -> None:
    for inner in filters:
        encode_filter(inner, message.filters.add(), depth + 1)
