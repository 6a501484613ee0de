"""The compiler from a filter's expression to the program of the filter kernels (kernels/filter/steps.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meshfold.kernels.filter.steps import STEP, Op
from meshfold.model.data.catalog import number_keys
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.filter.index import FilterLayout
from meshfold.model.schema import Field, FieldKind, Schema, nearest
from meshfold.model.types import Int64s

_INT64 = np.iinfo(np.int64)


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled filter. steps: [L, 4] int64. values: [V] int64. value_rows: [V, S] int64."""

    steps: Int64s
    values: Int64s
    value_rows: Int64s


class FilterCompiler:
    """Compiles expressions against one snapshot's schema, vocabularies and signature layout."""

    def __init__(
        self, schema: Schema, vocabularies: Mapping[str, Sequence[str]], layout: FilterLayout
    ) -> None:
        self._schema = schema
        self._layout = layout
        self._places = {f.name: place for place, f in enumerate(schema.filterable)}
        # The code of each string, for each field of categories.
        self.codes = {name: {v: code for code, v in enumerate(words)} for name, words in vocabularies.items()}

    def compile(self, expression: Expression | None) -> Program:
        """Compiles an expression; every item passes None.

        Raises InvalidQuery with the path of a part that does not fit the schema. The expression's depth must have been
        checked, for the compiler is recursive.
        """
        steps: list[tuple[int, int, int, int]] = []
        tables: list[tuple[Int64s, Int64s]] = [
            (np.empty(0, np.int64), np.empty((0, self._layout.hashes), np.int64))
        ]
        self._emit(All() if expression is None else expression, "filter", steps, tables)
        return Program(
            np.array(steps, np.int64).reshape(-1, STEP),
            np.concatenate([values for values, _ in tables]),
            np.concatenate([rows for _, rows in tables]),
        )

    def _emit(
        self,
        node: Expression,
        path: str,
        steps: list[tuple[int, int, int, int]],
        tables: list[tuple[Int64s, Int64s]],
    ) -> None:
        def table(values: Int64s, rows: Int64s) -> int:
            start = sum(len(known) for known, _ in tables)
            tables.append((values, rows))
            return start

        match node:
            case Match():
                place, field = self._field(node.field, f"{path}.match.field")
                values = self._values_of(node, field, f"{path}.match")
                rows, exact = self._layout.value_rows(place, values)
                known = rows[:, 0] >= 0
                parts = [(op, known & of) for op, of in ((Op.PLANE, exact), (Op.MATCH, ~exact))]
                parts = [(op, of) for op, of in parts if of.any()]
                if not parts:
                    steps.append((Op.CONSTANT, 0, 0, 0))
                for i, (op, of) in enumerate(parts):
                    steps.append((op, place, table(values[of], rows[of]), int(of.sum())))
                    if i:
                        steps.append((Op.OR, 0, 0, 0))
            case Range():
                place, field = self._field(node.field, f"{path}.range.field")
                if not field.kind.ordered:
                    ordered = [f.name for f in self._schema.filterable if f.kind.ordered]
                    raise InvalidQuery(
                        f"{path}.range.field",
                        f"{node.field!r} holds {field.kind}; a range needs a field of one number"
                        f" ({', '.join(ordered) or 'this surface has none'})",
                    )
                bounds = bounds_of(node, field.kind)
                rows = np.full((2, self._layout.hashes), place, np.int64)
                steps.append((Op.RANGE, place, table(np.array(bounds, np.int64), rows), 2))
            case Exists():
                place, _ = self._field(node.field, f"{path}.exists.field")
                steps.append((Op.EXISTS, place, 0, 0))
            case All() | Any():
                name, op = ("all", Op.AND) if isinstance(node, All) else ("any", Op.OR)
                if not node.filters:
                    steps.append((Op.CONSTANT, int(op is Op.AND), 0, 0))
                for i, inner in enumerate(node.filters):
                    self._emit(inner, f"{path}.{name}.filters[{i}]", steps, tables)
                    if i:
                        steps.append((op, 0, 0, 0))
            case AtLeast():
                for i, inner in enumerate(node.filters):
                    self._emit(inner, f"{path}.at_least.filters[{i}]", steps, tables)
                # Counts above the number of operands are all never true, and cut to fit the step.
                steps.append((Op.AT_LEAST, len(node.filters), min(node.count, len(node.filters) + 1), 0))
            case Not():
                self._emit(node.filter, f"{path}.not", steps, tables)
                steps.append((Op.NOT, 0, 0, 0))

    def _field(self, name: str, path: str) -> tuple[int, Field]:
        place = self._places.get(name)
        if place is None:
            if name in self._schema:
                raise InvalidQuery(path, f"{name!r} is text shown to people; it cannot be filtered")
            raise InvalidQuery(path, f"no field {name!r}{nearest(name, self._places)}")
        return place, self._schema[name]

    def _values_of(self, node: Match, field: Field, path: str) -> Int64s:
        """The values of a Match as integers of the field's column, without strings that no item has."""
        if field.kind.holds_strings:
            if node.ints:
                raise InvalidQuery(
                    f"{path}.ints", f"{node.field!r} holds {field.kind}; match it with strings"
                )
            codes = self.codes[node.field]
            return np.array(sorted({codes[s] for s in node.strings if s in codes}), np.int64)
        if node.strings:
            raise InvalidQuery(f"{path}.strings", f"{node.field!r} holds {field.kind}; match it with ints")
        if field.kind is FieldKind.NUMBER:
            # An integer beyond float64's exact range equals no number.
            numbers = np.array([float(i) for i in sorted(set(node.ints)) if int(float(i)) == i], np.float64)
            return number_keys(numbers)
        return np.array(sorted(set(node.ints)), np.int64)


def bounds_of(node: Range, kind: FieldKind) -> tuple[int, int]:
    """(smallest, largest) integer of the exact column in the range; smallest > largest for an empty range."""
    to_integers = _number_bounds if kind is FieldKind.NUMBER else _integer_bounds
    return to_integers(node.minimum, node.maximum, node.inclusive)


def _number_bounds(minimum: float | None, maximum: float | None, inclusive: bool) -> tuple[int, int]:
    # Keys of neighbouring floats are neighbouring integers, so that x > minimum is key(x) >= key(minimum) + 1.
    step = 0 if inclusive else 1
    low = _INT64.min if minimum is None else _key(minimum) + step
    high = _INT64.max if maximum is None else _key(maximum) - step
    return low, high


def _key(number: float) -> int:
    return int(number_keys(np.array([number], np.float64))[0])


def _integer_bounds(minimum: float | None, maximum: float | None, inclusive: bool) -> tuple[int, int]:
    low, high = _INT64.min, _INT64.max
    if minimum is not None and minimum != -math.inf:
        if minimum == math.inf:
            return 1, 0
        low = math.ceil(minimum) if inclusive else math.floor(minimum) + 1
    if maximum is not None and maximum != math.inf:
        if maximum == -math.inf:
            return 1, 0
        high = math.floor(maximum) if inclusive else math.ceil(maximum) - 1
    if low > _INT64.max or high < _INT64.min:
        return 1, 0
    return max(low, _INT64.min), min(high, _INT64.max)
