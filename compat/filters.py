"""Converts filters between messages and expression trees, for protocols whose Filter has the mesh's fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.protos.mesh.v1 import types_pb2 as mesh
from meshfold.protos.meshfold.v1 import retrieval_pb2 as native

FilterMessage = mesh.Filter | native.Filter

# Most nested filters: protobuf parsers stop at 100 nested messages, and a filter in a list takes two.
DEEPEST = 48
# Most parts of a filter while decoding, which bounds its cost; a server's limits, checked on the tree, are far below.
MOST_PARTS = 100_000


def decode_filter(message: FilterMessage) -> Expression:
    """The expression of a Filter message. Raises InvalidQuery with the path of an empty filter.

    Recursion is bounded by the parser's limit of nested messages.
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
    """Fills an empty Filter message. Raises InvalidQuery where it would be too deep for parsers."""
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
