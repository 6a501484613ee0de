"""Translates filters of a caller's protocol into expressions, by declaration or by a converter."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from meshfold.compat.mapped.converters import function_at
from meshfold.compat.mapped.getters import getter
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paths import Path, kind_of
from meshfold.compat.mapped.values import Metadata, Read, Scope, Value, value_of
from meshfold.model.errors import InvalidQuery, MeshfoldError
from meshfold.model.filter.expression import All, Exists, Expression, Match, Not, Range
from meshfold.model.filter.text import parse_filter

_KINDS = ("string", "integer")
_OPERATORS = ("!=", ">=", "<=", "=", ">", "<")
_WORDS = {
    "cel": set[str](),
    "const": set[str](),
    "converter": {"path"},
    "pairs": {"fields", "integers", "many", "operators"},
    "entries": {"name", "values", "none", "fields", "exclude", "operator"},
    "field": {"any", "none", "min", "max", "inclusive", "exists"},
}
_INTEGER = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True, eq=False)
class Condition:
    """A condition of a mapping's filter. read: reads its expression; None where the caller sets nothing. name: its path
    in a request. counted: paths whose values count as values of matches. is_tree: whether the request contains an
    expression tree."""

    name: str
    read: Callable[[Any, Metadata], Expression | None]
    counted: tuple[Path, ...] = ()
    metadata: tuple[str, ...] = ()
    is_tree: bool = False


def filter_of(part: Part, scope: Scope) -> list[Condition]:
    """The conditions of a mapping's filter, all of which must hold. Raises InvalidMapping."""
    return [_condition(entry, scope) for entry in part.entries()]


def expression(conditions: list[Condition]) -> Callable[[Any, Metadata], Expression | None]:
    """Makes the reader of a request's filter from its conditions."""
    reads = [condition.read for condition in conditions]

    def read(message: Any, metadata: Metadata) -> Expression | None:
        found = [one for each in reads if (one := each(message, metadata)) is not None]
        if not found:
            return None
        return found[0] if len(found) == 1 else All(tuple(found))

    return read


def _condition(part: Part, scope: Scope) -> Condition:
    table = part.table()
    kinds = [kind for kind in _WORDS if kind in table]
    if len(kinds) != 1:
        raise part.error(f"needs one of {', '.join(_WORDS)}")
    kind = kinds[0]
    part.table({kind, *_WORDS[kind]})
    match kind:
        case "cel":
            value = value_of(table["cel"], scope, ("string",))
            return Condition(value.name, _text(value), metadata=_metadata(value))
        case "const":
            return _constant(table["const"])
        case "converter":
            return _converted(part, table, scope)
        case "pairs":
            return _pairs(table, scope)
        case "entries":
            return _entries(part, table, scope)
    return _flat(part, table, scope)


def _metadata(*values: Value) -> tuple[str, ...]:
    return tuple(key for value in values for key in value.metadata)


def _text(value: Value) -> Callable[[Any, Metadata], Expression | None]:
    def read(message: Any, metadata: Metadata) -> Expression | None:
        text = value.read(message, metadata)
        if not text:
            return None
        try:
            return parse_filter(text)
        except InvalidQuery as error:
            raise InvalidQuery(value.name, error.message) from None

    return read


def _constant(part: Part) -> Condition:
    try:
        fixed = parse_filter(part.text())
    except MeshfoldError as error:
        raise part.error(str(error)) from None
    return Condition("filter", lambda *_: fixed)


def _converted(part: Part, table: Mapping[str, Part], scope: Scope) -> Condition:
    if "path" not in table:
        raise part.error("path is missing: the message that the converter gets")
    path = scope.path(table["path"])
    convert = function_at(table["converter"])
    get = getter(path)

    def read(message: Any, _: Metadata) -> Expression | None:
        held = get(message)
        if held is None or (path.many and not len(held)):
            return None
        try:
            made = convert(held)
        except InvalidQuery as error:
            raise InvalidQuery(
                error.path if error.path.startswith("filter") else path.text, error.message
            ) from None
        if made is not None and not isinstance(made, Expression):
            raise TypeError(
                f"{table['converter'].raw} gives {type(made).__name__}; expected an Expression or None"
            )
        return made

    return Condition(path.text, read, is_tree=True)


def _pairs(table: Mapping[str, Part], scope: Scope) -> Condition:
    """The condition of `key=value` strings."""
    value = value_of(table["pairs"], scope, ("string",), many=True)
    if not value.many:
        raise table["pairs"].error(f"{value.name!r} is one string; expected a list of them")
    names = _names(table.get("fields"))
    integers = frozenset(table["integers"].texts()) if "integers" in table else frozenset()
    many = table["many"].text() if "many" in table else None
    allowed = table["operators"].texts() if "operators" in table else _OPERATORS
    for operator in allowed:
        if operator not in _OPERATORS:
            raise table["operators"].error(f"{operator!r} is no operator; known: {' '.join(_OPERATORS)}")
    pattern = re.compile("|".join(re.escape(one) for one in sorted(allowed, key=len, reverse=True)))

    def read(message: Any, metadata: Metadata) -> Expression | None:
        found = []
        for place, text in enumerate(value.read(message, metadata) or ()):
            here = f"{value.name}[{place}]"
            match = pattern.search(text)
            if match is None or match.start() == 0:
                raise InvalidQuery(here, f"must be a field, one of {' '.join(allowed)} and a value")
            name = _named(text[: match.start()].strip(), names, here)
            held = text[match.end() :]
            texts = held.split(many) if many else [held]
            found.append(_compared(name, match[0], [t.strip() for t in texts], name in integers, here))
        return _all(found)

    counted = () if value.path is None else (value.path,)
    return Condition(value.name, read, counted)


def _compared(name: str, operator: str, texts: list[str], integers: bool, here: str) -> Expression:
    if operator in ("=", "!="):
        if integers:
            if not all(_INTEGER.fullmatch(text) for text in texts):
                raise InvalidQuery(here, f"{name} takes whole numbers")
            match = Match(name, ints=tuple(map(int, texts)))
        else:
            match = Match(name, strings=tuple(texts))
        return match if operator == "=" else Not(match)
    if len(texts) != 1:
        raise InvalidQuery(here, f"{operator} takes one number, got {len(texts)} values")
    try:
        number = float(texts[0])
    except ValueError:
        raise InvalidQuery(here, f"{operator} takes a number, got {texts[0][:40]!r}") from None
    if math.isnan(number):
        raise InvalidQuery(here, f"{operator} takes a number, got NaN")
    return _bound(name, operator, number)


def _bound(field: str, operator: str, number: float) -> Range:
    inclusive = operator.endswith("=")
    if operator.startswith(">"):
        return Range(field, minimum=number, inclusive=inclusive)
    return Range(field, maximum=number, inclusive=inclusive)


def _names(part: Part | None) -> Mapping[str, str] | None:
    """Catalog fields by the caller's names; None where the names are the same."""
    return None if part is None else {name: each.text() for name, each in part.table().items()}


def _named(name: str, names: Mapping[str, str] | None, here: str) -> str:
    if names is None:
        return name
    if name not in names:
        raise InvalidQuery(here, f"no field {name[:64]!r} to filter by; known: {', '.join(sorted(names))}")
    return names[name]


def _entries(part: Part, table: Mapping[str, Part], scope: Scope) -> Condition:
    """The condition of messages with a field's name and values, or of a map."""
    path = scope.path(table["entries"])
    names = _names(table.get("fields"))
    if path.kind == "map" and not path.many:
        return _of_map(part, path, names)
    if path.kind != "message" or not path.many:
        raise table["entries"].error(f"{path.text!r} must lead to repeated messages, or to a map")
    for needed in ("name", "values"):
        if needed not in table:
            raise part.error(f"{needed} is missing: a path within {path.leaf.message_type.full_name}")
    inner = scope.within(path)
    name = value_of(table["name"], inner, ("string",))
    operator = value_of(table["operator"], inner, ("string",)) if "operator" in table else None
    if operator is not None and ("none" in table or "exclude" in table):
        raise table["operator"].error("says how values compare; leave none and exclude out")
    kinds = _KINDS if operator is None else (*_KINDS, "number")
    values = [value_of(each, inner, kinds, many=True) for each in table["values"].entries()]
    unwanted = (
        [value_of(each, inner, _KINDS, many=True) for each in table["none"].entries()]
        if "none" in table
        else []
    )
    exclude = value_of(table["exclude"], inner, ("bool",)) if "exclude" in table else None
    get = getter(path)

    def condition(entry: Any, metadata: Metadata, here: str) -> Expression:
        field = _named(name.read(entry, metadata) or "", names, here)
        lists = [_listed(each, entry, metadata) for each in values]
        if operator is not None:
            return _by_operator(field, operator.read(entry, metadata) or "", lists, here)
        match = _match(field, lists)
        without = _match(field, [_listed(each, entry, metadata) for each in unwanted])
        if match is None and without is None:
            raise InvalidQuery(here, f"{field or 'a field'} has no values; give some, or leave it out")
        if match is not None and exclude is not None and exclude.read(entry, metadata):
            return Not(match)
        found = _all([*([] if match is None else [match]), *([] if without is None else [Not(without)])])
        assert found is not None
        return found

    def read(message: Any, metadata: Metadata) -> Expression | None:
        return _all([condition(e, metadata, f"{path.text}[{place}]") for place, e in enumerate(get(message))])

    return Condition(path.text, read)


def _by_operator(field: str, operator: str, lists: list[Any], here: str) -> Expression:
    """The expression of an entry that compares a field by an operator."""
    if operator not in _OPERATORS:
        raise InvalidQuery(here, f"{field} is compared by {operator[:40]!r}; known: {' '.join(_OPERATORS)}")
    held = [value for each in lists for value in each]
    if any(isinstance(value, float) and math.isnan(value) for value in held):
        raise InvalidQuery(here, f"{operator} takes a number, got nan")
    if len(held) != 1 and not (held and operator in ("=", "!=")):
        raise InvalidQuery(here, f"{operator} takes one value, got {len(held)}")
    if operator in ("=", "!="):
        match = _match(field, [[value for value in held if not isinstance(value, float)]])
        numbers = [Range(field, value, value, inclusive=True) for value in held if isinstance(value, float)]
        equal = numbers[0] if match is None and len(numbers) == 1 else match
        if equal is None or (numbers and match is not None):
            raise InvalidQuery(here, f"{operator} takes strings, integers or one number")
        return equal if operator == "=" else Not(equal)
    (value,) = held
    if isinstance(value, str):
        raise InvalidQuery(here, f"{operator} takes a number, got {value[:40]!r}")
    return _bound(field, operator, float(value))


def _of_map(part: Part, path: Path, names: Mapping[str, str] | None) -> Condition:
    held = path.steps[-1].field.message_type.fields_by_name
    kind = kind_of(held["value"])
    if kind not in _KINDS or kind_of(held["key"]) != "string":
        raise part.error(f"{path.text!r} must be a map from strings to strings or integers")
    get = getter(path)

    def read(message: Any, _: Metadata) -> Expression | None:
        found: list[Expression] = []
        for key, value in sorted((get(message) or {}).items()):
            match = _match(_named(key, names, f'{path.text}["{key}"]'), [[value]])
            found += [] if match is None else [match]
        return _all(found)

    return Condition(path.text, read)


def _flat(part: Part, table: Mapping[str, Part], scope: Scope) -> Condition:
    """The condition of a catalog field and a request's values for it."""
    name = table["field"].text()
    if len(table) == 1:
        raise part.error(f"needs one of {', '.join(sorted(_WORDS['field'] - {'inclusive'}))}")
    wanted, unwanted = (
        [value_of(each, scope, _KINDS, many=True) for each in table[word].entries()] if word in table else []
        for word in ("any", "none")
    )
    bounds: dict[str, Value] = {
        word: value_of(table[word], scope, ("number", "integer")) for word in ("min", "max") if word in table
    }
    exists = value_of(table["exists"], scope, ("bool",)) if "exists" in table else None
    inclusive = table["inclusive"].flag() if "inclusive" in table else True
    low, high = (bounds[word].read if word in bounds else _nothing for word in ("min", "max"))

    def read(message: Any, metadata: Metadata) -> Expression | None:
        found: list[Expression] = []
        if wanted:
            match = _match(name, [_listed(each, message, metadata) for each in wanted])
            found += [] if match is None else [match]
        if unwanted:
            match = _match(name, [_listed(each, message, metadata) for each in unwanted])
            found += [] if match is None else [Not(match)]
        least, most = low(message, metadata), high(message, metadata)
        if least is not None or most is not None:
            found.append(Range(name, least, most, inclusive))
        if exists is not None and exists.read(message, metadata):
            found.append(Exists(name))
        return _all(found)

    values = (*wanted, *unwanted, *bounds.values(), *(() if exists is None else (exists,)))
    counted = tuple(value.path for value in (*wanted, *unwanted) if value.path is not None and value.many)
    return Condition(values[0].name, read, counted, _metadata(*values))


_nothing: Read = lambda *_: None  # noqa: E731


def _listed(value: Value, message: Any, metadata: Metadata) -> Any:
    found = value.read(message, metadata)
    if found is None:
        return []
    if not value.many:
        return [found]
    return found.tolist() if isinstance(found, np.ndarray) else found


def _match(field: str, lists: list[Any]) -> Match | None:
    values = [value for each in lists for value in each]
    if not values:
        return None
    strings = tuple(value for value in values if isinstance(value, str))
    return Match(field, strings, tuple(value for value in values if not isinstance(value, str)))


def _all(found: list[Expression]) -> Expression | None:
    if not found:
        return None
    return found[0] if len(found) == 1 else All(tuple(found))
