"""Qdrant's filters, whose conditions hold filters, as expressions. What has no equal here is refused by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any as Message

from google.protobuf.unknown_fields import UnknownFieldSet

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range


def expression(message: Message) -> Expression | None:
    """Of a qdrant.Filter. None where all of it is ids in must_not, which the mapping reads as excluded ids. Raises
    InvalidQuery."""
    return _filter(message, "filter", is_outermost=True)


def _filter(message: Message, path: str, is_outermost: bool = False) -> Expression | None:
    found: list[Expression] = []
    for name, value in _fields(message, path):
        here = f"{path}.{name}"
        match name:
            case "must":
                found += _conditions(value, here)
            case "should":
                found.append(Any(tuple(_conditions(value, here))))
            case "must_not":
                # Ids are excluded by the mapping, where they stand at the top.
                kept = [
                    (place, each)
                    for place, each in enumerate(value)
                    if not (is_outermost and each.HasField("has_id"))
                ]
                found += [Not(_condition(each, f"{here}[{place}]")) for place, each in kept]
            case "min_should":
                _fields(value, here)
                conditions = _conditions(value.conditions, f"{here}.conditions")
                found.append(AtLeast(value.min_count, tuple(conditions)))
            case _:
                raise _refusal(here)
    if not found:
        return None
    return found[0] if len(found) == 1 else All(tuple(found))


def _conditions(messages: Iterable[Message], path: str) -> list[Expression]:
    return [_condition(message, f"{path}[{place}]") for place, message in enumerate(messages)]


def _condition(message: Message, path: str) -> Expression:
    fields = _fields(message, path)
    if not fields:
        raise InvalidQuery(path, "is empty; give a field, is_empty or a filter")
    ((name, value),) = fields
    here = f"{path}.{name}"
    match name:
        case "field":
            return _field(value, here)
        case "is_empty":
            _fields(value, here)
            return Not(Exists(value.key))
        case "filter":
            inner = _filter(value, here)
            return All() if inner is None else inner
        case "has_id":
            raise InvalidQuery(here, "is served in the outermost must_not alone; ids cannot be asked for")
    raise _refusal(here)


def _field(message: Message, path: str) -> Expression:
    found: list[Expression] = []
    for name, value in _fields(message, path):
        here = f"{path}.{name}"
        match name:
            case "key":
                pass
            case "match":
                found.append(_match(message.key, value, here))
            case "range":
                found += _range(message.key, value, here)
            case "is_empty":
                found.append(Not(Exists(message.key)) if value else Exists(message.key))
            case _:
                raise _refusal(here)
    if not found:
        raise InvalidQuery(path, "has no condition; give match, range or is_empty")
    return found[0] if len(found) == 1 else All(tuple(found))


def _match(key: str, message: Message, path: str) -> Expression:
    fields = _fields(message, path)
    if not fields:
        raise InvalidQuery(path, "is empty; give keyword, integer, keywords or integers")
    ((name, value),) = fields
    here = f"{path}.{name}"
    match name:
        case "keyword":
            return Match(key, strings=(value,))
        case "integer":
            return Match(key, ints=(value,))
        case "keywords":
            _fields(value, here)
            return Match(key, strings=tuple(value.strings))
        case "integers":
            _fields(value, here)
            return Match(key, ints=tuple(value.integers))
    raise _refusal(here)


def _range(key: str, message: Message, path: str) -> list[Expression]:
    found: list[Expression] = []
    for name, value in _fields(message, path):
        match name:
            case "gte" | "gt":
                found.append(Range(key, minimum=value, inclusive=name == "gte"))
            case "lte" | "lt":
                found.append(Range(key, maximum=value, inclusive=name == "lte"))
            case _:
                raise _refusal(f"{path}.{name}")
    if not found:
        raise InvalidQuery(path, "has no bound; give gte, gt, lte or lt")
    return found


def _fields(message: Message, path: str) -> list[tuple[str, Message]]:
    """The fields that are set, by name. Raises InvalidQuery for one that the descriptors lack."""
    if len(UnknownFieldSet(message)):
        number = UnknownFieldSet(message)[0].field_number
        raise InvalidQuery(path, f"has a field {number}, which is not known here")
    return [(field.name, value) for field, value in message.ListFields()]


def _refusal(path: str) -> InvalidQuery:
    return InvalidQuery(path, "is not served; leave it out")
