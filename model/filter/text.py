r"""The text form of filters, for people and logs: a subset of CEL (https://github.com/google/cel-spec).

    language in ["en", "es"] && !("Horror" in genres) && year >= 1990

    f == 1, f == "a", "a" in f    Match: the item has the value, perhaps among others
    f in ["a", "b"], f in [1, 2]  Match: the item has any of the values
    f == 1.5                      Range of this number alone: 1.0 is a number, 1 an integer
    f < 1, f <= 1, 1 < f, ...     Range; double("inf") and double("-inf") are numbers, too
    f != x                        Not of f == x, so true for an item without the field
    has(f)                        Exists
    a && b, a || b, !a, (a)       All, Any, Not; a chain is one node, even across parentheses
    at_least(2, a, b, c)          AtLeast
    true, false                   All and Any without filters

A field is any identifier but true, false and null; the schema is checked later (program.py). Strings are CEL's: "a",
'a', triple-quoted, raw (r"a\b"), with its escapes. `// ...` is a comment. Other constructs of CEL are errors.
"""

from __future__ import annotations

import math
import re

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.cel import expression_of
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range

_FIELD = re.compile(r"(?!(?:true|false|null)\Z)[A-Za-z_][A-Za-z0-9_]*\Z")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def parse_filter(text: str) -> Expression:
    """Parses a filter. Raises InvalidQuery that names the line and column, both from 1.

    Limits: those of FILTERS in cel.py. Integers are int64; an integer bound of a Range must be exact as float64.
    """
    return expression_of(text)


def format_filter(expression: Expression) -> str:
    """The canonical text of a filter, which parse_filter reads as an equivalent filter, within its limits.

    The filter it reads is equal where no All is directly in an All and no Any in an Any, neither has exactly one
    filter, each Match has values of one kind, and each Range has one bound, or two equal and inclusive ones.
    Otherwise a Range with two bounds becomes two comparisons, a Range without bounds has(field), and a Match of both
    kinds an Any. Four forms have a text for logs that parse_filter refuses: a Match without values, NaN, half a
    surrogate pair, and a negative count. Depth and length are not limited. Raises InvalidQuery where a field's name is
    no identifier.
    """
    pieces: list[str] = []
    rest: list[Expression | str] = [expression]
    while rest:
        part = rest.pop()
        if isinstance(part, str):
            pieces.append(part)
        else:
            rest.extend(reversed(_parts(_writable(part))))
    return "".join(pieces)


def _writable(expression: Expression) -> Expression:
    """An equivalent expression with a text form: format_filter's rewrites for the top node."""
    while isinstance(expression, All | Any) and len(expression.filters) == 1:
        expression = expression.filters[0]
    match expression:
        case Match(name, strings, ints) if strings and ints:
            return Any((Match(name, strings), Match(name, (), ints)))
        case Range(name, None, None):
            return Exists(name)
        case Range(name, low, high, inclusive) if None not in (low, high) and not _is_one_value(expression):
            return All((Range(name, low, None, inclusive), Range(name, None, high, inclusive)))
    return expression


def _is_one_value(expression: Expression) -> bool:
    """Whether the expression compares with one value, so that != is its negation."""
    if isinstance(expression, Match):
        return len(expression.strings) + len(expression.ints) == 1
    return isinstance(expression, Range) and expression.inclusive and expression.minimum == expression.maximum


def _parts(expression: Expression) -> list[Expression | str]:
    """The pieces of a writable expression's text; inner expressions are still to be formatted."""
    match expression:
        case Match() | Range():
            return [_comparison(expression, "==")]
        case Exists(name):
            return [f"has({_field(name)})"]
        case All(filters) | Any(filters):
            return _chain(expression, [_writable(inner) for inner in filters])
        case AtLeast(count, filters):
            operands = [part for inner in filters for part in (", ", inner)]
            return [f"at_least({int(count)}", *operands, ")"]
        case Not(inner):
            inner = _writable(inner)
            if isinstance(inner, Match | Range) and _is_one_value(inner):
                return [_comparison(inner, "!=")]
            closed = isinstance(inner, Exists | AtLeast) or inner in (All(), Any())
            return ["!", inner] if closed else ["!(", inner, ")"]


def _chain(expression: All | Any, filters: list[Expression]) -> list[Expression | str]:
    operator, constant = (" && ", "true") if isinstance(expression, All) else (" || ", "false")
    parts: list[Expression | str] = []
    for inner in filters:
        other = Any if isinstance(expression, All) else All
        parts += (
            [operator, "(", inner, ")"] if isinstance(inner, other) and inner.filters else [operator, inner]
        )
    return parts[1:] or [constant]


def _comparison(comparison: Match | Range, equality: str) -> str:
    name = _field(comparison.field)
    if isinstance(comparison, Match):
        values = [*map(_string, comparison.strings), *(str(int(value)) for value in comparison.ints)]
        return f"{name} {equality} {values[0]}" if len(values) == 1 else f"{name} in [{', '.join(values)}]"
    equals = "=" if comparison.inclusive else ""
    if comparison.minimum is not None:
        if comparison.maximum is not None:
            return f"{name} {equality} {_number(comparison.minimum, whole=False)}"
        return f"{name} >{equals} {_number(comparison.minimum)}"
    assert comparison.maximum is not None
    return f"{name} <{equals} {_number(comparison.maximum)}"


def _field(name: str) -> str:
    if not _FIELD.match(name):
        raise InvalidQuery(
            "filter", f"the field {name!r} has no text form; a field is an identifier, such as year"
        )
    return name


def _number(number: float, whole: bool = True) -> str:
    """The shortest text of the float64. whole: write integers up to 2**53 without a point."""
    number = float(number)
    if not math.isfinite(number):
        return f'double("{number}")'
    return str(int(number)) if whole and number.is_integer() and abs(number) <= 2**53 else repr(number)


def _string(value: str) -> str:
    return f'"{"".join(_character(c) for c in value)}"'


def _character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
