"""Checks and conversion of a query's parts other than lists: texts, whole numbers, weights, caps and filters."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import All, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.filter.expression import Any as AnyOf
from meshfold.model.types import MaxPerValue

_SHOWN = 60
_EXPRESSIONS = get_args(Expression)
_LISTS = {All: "all", AnyOf: "any", AtLeast: "at_least"}


def text(path: str, value: Any) -> None:
    """Raises InvalidQuery for a value that is no text, or has half of a surrogate pair, which UTF-8 cannot encode."""
    if not isinstance(value, str):
        raise InvalidQuery(path, f"must be a string, got {shown(value)}")
    if not value.isascii():
        texts(path, (value,), "")


def texts(path: str, values: Sequence[str], place: str = "[{}]") -> None:
    """Raises InvalidQuery with the place of a string that UTF-8 cannot encode. values: strings."""
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        for i, value in enumerate(values):
            if _is_broken(value):
                raise InvalidQuery(
                    path + place.format(i),
                    f"holds half of a surrogate pair; give Unicode text, got {shown(value)}",
                ) from None


def whole(path: str, value: Any) -> int:
    """An integer. Raises InvalidQuery for any other value."""
    if type(value) is bool or not isinstance(value, int | np.integer):
        raise InvalidQuery(path, f"must be a whole number, got {shown(value)}")
    return int(value)


def names(path: str, values: Any) -> tuple[str, ...]:
    """A tuple of names from a list; None gives ()."""
    if values is None or (type(values) is tuple and not values):
        return ()
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise InvalidQuery(path, f"must be a list of names, got {shown(values)}; give [{shown(values)}]")
    for i, value in enumerate(values):
        text(f"{path}[{i}]", value)
    return values if type(values) is tuple else tuple(map(str, values))


def by_name(path: str, values: Any, example: str) -> Mapping[str, Any]:
    """A dict with names as keys; None gives {}."""
    if values is None:
        return {}
    if type(values) is not dict and not isinstance(values, Mapping):
        raise InvalidQuery(path, f"must be a dict by names such as {example}, got {shown(values)}")
    for name in values:
        if not isinstance(name, str) or not name.isascii():
            text(f"{path}[{shown(name)}]", name)
    return values


def weights(path: str, values: Any) -> Mapping[str, float]:
    """Floats by the names of tasks."""
    given = by_name(path, values, '{"like": 0.5}')
    if all(type(value) is float for value in given.values()):
        return given
    return {name: _number(f'{path}["{name}"]', value) for name, value in given.items()}


def cap(path: str, value: Any) -> MaxPerValue | None:
    """A MaxPerValue, from one or from a pair of field and number."""
    if value is None:
        return None
    if isinstance(value, tuple | list) and len(value) == 2:
        value = MaxPerValue(*value)
    if not isinstance(value, MaxPerValue):
        raise InvalidQuery(path, f'must be a field and a number such as ("year", 1), got {shown(value)}')
    text(f"{path}.field", value.field)
    limit = whole(f"{path}.limit", value.limit)
    return value if limit is value.limit else MaxPerValue(value.field, limit)


def check_expression(root: Any) -> None:
    """Raises InvalidQuery with the path of a part that is no Expression or has a field of another type.

    The stack is explicit, because trees may be nested to any depth.
    """
    if isinstance(root, str):
        raise InvalidQuery("filter", "must be an Expression, got text; parse_filter(text) makes one")
    stack: list[tuple[Any, str]] = [(root, "filter")]
    while stack:
        node, path = stack.pop()
        match node:
            case Match():
                text(f"{path}.match.field", node.field)
                _check_values(f"{path}.match", node)
            case Range():
                text(f"{path}.range.field", node.field)
                for name, bound in (("min", node.minimum), ("max", node.maximum)):
                    if bound is not None:
                        _number(f"{path}.range.{name}", bound)
            case Exists():
                text(f"{path}.exists.field", node.field)
            case Not():
                stack.append((node.filter, f"{path}.not"))
            case All() | AnyOf() | AtLeast():
                inner = f"{path}.{_LISTS[type(node)]}"
                if isinstance(node, AtLeast):
                    whole(f"{inner}.count", node.count)
                if not isinstance(node.filters, tuple | list):
                    raise InvalidQuery(
                        f"{inner}.filters", f"must be a tuple of Expressions, got {shown(node.filters)}"
                    )
                stack += [(f, f"{inner}.filters[{i}]") for i, f in enumerate(node.filters)][::-1]
            case _:
                kinds = ", ".join(kind.__name__ for kind in _EXPRESSIONS)
                raise InvalidQuery(path, f"must be an Expression ({kinds}), got {shown(node)}")


def shown(value: Any) -> str:
    """A value as one short line, for errors."""
    line = ascii(value) if isinstance(value, str) and _is_broken(value) else " ".join(repr(value).split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."


def _check_values(path: str, node: Match) -> None:
    for name, values in (("strings", node.strings), ("ints", node.ints)):
        if not isinstance(values, tuple | list):
            raise InvalidQuery(
                f"{path}.{name}", f"must be a tuple, got {shown(values)}; give ({shown(values)},)"
            )
    # Both checks take a tenth of a loop's time.
    try:
        if node.strings:
            texts(f"{path}.strings", node.strings)
        if node.ints:
            array("q", node.ints)
    except (TypeError, OverflowError):
        for i, value in enumerate(node.strings):
            text(f"{path}.strings[{i}]", value)
        for i, number in enumerate(node.ints):
            if not -(1 << 63) <= whole(f"{path}.ints[{i}]", number) < 1 << 63:
                raise InvalidQuery(
                    f"{path}.ints[{i}]", f"{shown(number)} does not fit into 64 bits"
                ) from None


def _number(path: str, value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise InvalidQuery(path, f"must be a number, got {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise InvalidQuery(path, "is an integer that is too large for a number") from None


def _is_broken(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False
