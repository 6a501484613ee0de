from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.filter.steps import Op
from meshfold.model.data.catalog import Column, number_keys
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.filter.index import layout_of
from meshfold.model.filter.program import FilterCompiler, Program
from meshfold.model.schema import Field, FieldKind, Schema

LOW, HIGH = np.iinfo(np.int64).min, np.iinfo(np.int64).max
SCHEMA = Schema(
    "s",
    (
        Field("title", FieldKind.TEXT),
        Field("language", FieldKind.CATEGORY),
        Field("tags", FieldKind.CATEGORIES),
        Field("year", FieldKind.INTEGER),
        Field("groups", FieldKind.INTEGERS),
        Field("price", FieldKind.NUMBER),
    ),
    ("t",),
)
LANGUAGE, TAGS, YEAR, GROUPS, PRICE = range(5)


@pytest.fixture(scope="module")
def compiler() -> FilterCompiler:
    columns = {
        "language": Column.of_strings(FieldKind.CATEGORY, [["de"], ["en"], []] * 40),
        "tags": Column.of_strings(FieldKind.CATEGORIES, [[f"t{i:03}"] for i in range(120)]),
        "year": Column.of_integers(FieldKind.INTEGER, [[1900 + i] for i in range(120)]),
        "groups": Column.of_integers(FieldKind.INTEGERS, [[3, 5]] * 120),
        "price": Column.of_numbers(np.arange(120, dtype=np.float64)),
    }
    words = {name: columns[name].vocabulary or () for name in ("language", "tags")}
    return FilterCompiler(SCHEMA, words, layout_of(SCHEMA, columns))


def steps(program: Program) -> list[tuple[int, ...]]:
    assert len(program.values) == len(program.value_rows)
    assert program.value_rows.shape[1] > 1
    return [tuple(step) for step in program.steps.tolist()]


def test_no_filter_is_the_one_that_every_item_passes(compiler: FilterCompiler) -> None:
    for expression in (None, All(), AtLeast(0), Not(Any())):
        assert steps(compiler.compile(expression))[0][0] in (Op.CONSTANT, Op.AT_LEAST)
    assert steps(compiler.compile(None)) == [(Op.CONSTANT, 1, 0, 0)]
    assert steps(compiler.compile(Any())) == [(Op.CONSTANT, 0, 0, 0)]


def test_terms_name_their_field_and_values(compiler: FilterCompiler) -> None:
    program = compiler.compile(Match("language", ("en", "de", "xx", "en")))
    assert steps(program) == [(Op.PLANE, LANGUAGE, 0, 2)]
    assert program.values.tolist() == [0, 1]
    program = compiler.compile(All((Match("tags", ("t007",)), Match("year", ints=(1950, 1901, 1950)))))
    assert steps(program) == [(Op.MATCH, TAGS, 0, 1), (Op.MATCH, YEAR, 1, 2), (Op.AND, 0, 0, 0)]
    assert program.values.tolist() == [7, 1901, 1950]
    assert steps(compiler.compile(Match("groups", ints=(3, 4)))) == [(Op.PLANE, GROUPS, 0, 1)]
    assert steps(compiler.compile(Exists("price"))) == [(Op.EXISTS, PRICE, 0, 0)]


def test_exact_values_and_hashed_ones_are_terms_of_their_own() -> None:
    schema = Schema("s", (Field("year", FieldKind.INTEGER),), ("t",))
    year = Column.of_integers(FieldKind.INTEGER, [[7]] * 50 + [[100 + i] for i in range(150)])
    compiler = FilterCompiler(schema, {}, layout_of(schema, {"year": year}))
    program = compiler.compile(Match("year", ints=(100, 7, 101)))
    assert steps(program) == [(Op.PLANE, 0, 0, 1), (Op.MATCH, 0, 1, 2), (Op.OR, 0, 0, 0)]
    assert program.values.tolist() == [7, 100, 101]
    assert len({*program.value_rows[0].tolist()}) == 1
    assert steps(compiler.compile(Match("year", ints=(7,)))) == [(Op.PLANE, 0, 0, 1)]
    assert steps(compiler.compile(Match("year", ints=(100,)))) == [(Op.MATCH, 0, 0, 1)]
    negated = steps(compiler.compile(Not(Match("year", ints=(7, 100)))))
    assert negated == [(Op.PLANE, 0, 0, 1), (Op.MATCH, 0, 1, 1), (Op.OR, 0, 0, 0), (Op.NOT, 0, 0, 0)]


def test_values_that_no_item_holds_match_nothing(compiler: FilterCompiler) -> None:
    nothing = [(Op.CONSTANT, 0, 0, 0)]
    for match in (
        Match("language", ("xx", "")),
        Match("tags", ("T007",)),
        Match("groups", ints=(4,)),
        Match("price", ints=(2**53 + 1,)),
        Match("price", ints=(HIGH,)),
    ):
        assert steps(compiler.compile(match)) == nothing


def test_operators_come_after_their_operands(compiler: FilterCompiler) -> None:
    a, b, c = Exists("year"), Exists("tags"), Exists("price")
    assert [s[0] for s in steps(compiler.compile(Any((a, b, c))))] == [
        Op.EXISTS,
        Op.EXISTS,
        Op.OR,
        Op.EXISTS,
        Op.OR,
    ]
    assert steps(compiler.compile(AtLeast(2, (a, b, c))))[-1] == (Op.AT_LEAST, 3, 2, 0)
    assert steps(compiler.compile(AtLeast(10**30, (a,))))[-1] == (Op.AT_LEAST, 1, 2, 0)
    assert [s[0] for s in steps(compiler.compile(Not(All((a,)))))] == [Op.EXISTS, Op.NOT]


def bounds(compiler: FilterCompiler, expression: Range) -> tuple[int, int]:
    program = compiler.compile(expression)
    ((op, _, first, _),) = steps(program)
    assert op == Op.RANGE
    low, high = program.values[first : first + 2].tolist()
    return low, high


floats = st.floats(allow_nan=False) | st.sampled_from(
    [math.inf, -math.inf, 2.0**63, -(2.0**63), 2.0**63 - 1024, 2.0**53, 0.5, -0.5, -0.0, 5e-324]
)
limits = st.none() | floats | st.integers(-(2**63), 2**63 - 1).map(float) | st.integers(-5, 5).map(float)


def within(value: float | Fraction, expression: Range) -> bool:
    low = -math.inf if expression.minimum is None else expression.minimum
    high = math.inf if expression.maximum is None else expression.maximum
    if expression.inclusive:
        return low <= value <= high
    above = expression.minimum is None or low < value
    return above and (expression.maximum is None or value < high)


@settings(deadline=None, max_examples=500)
@given(limits, limits, st.booleans(), st.lists(st.integers(LOW, HIGH), max_size=5))
def test_integer_ranges_hold_just_the_integers_between_their_bounds(
    compiler: FilterCompiler, minimum: float | None, maximum: float | None, inclusive: bool, tried: list[int]
) -> None:
    expression = Range("year", minimum, maximum, inclusive)
    low, high = bounds(compiler, expression)
    assert LOW <= low <= HIGH
    assert LOW <= high <= HIGH
    near = {
        int(b) + d for b in (minimum, maximum) if b is not None and math.isfinite(b) for d in range(-2, 3)
    }
    for value in {*tried, *near, LOW, LOW + 1, -1, 0, 1, HIGH - 1, HIGH}:
        if LOW <= value <= HIGH:
            assert (low <= value <= high) == within(Fraction(value), expression)


@settings(deadline=None, max_examples=500)
@given(limits, limits, st.booleans(), st.lists(floats, max_size=5))
def test_number_ranges_hold_just_the_numbers_between_their_bounds(
    compiler: FilterCompiler,
    minimum: float | None,
    maximum: float | None,
    inclusive: bool,
    tried: list[float],
) -> None:
    expression = Range("price", minimum, maximum, inclusive)
    low, high = bounds(compiler, expression)
    given = [b for b in (minimum, maximum) if b is not None]
    near = [math.nextafter(b, to) for b in given for to in (-math.inf, math.inf)]
    for value in [*tried, *given, *near, 0.0, -0.0, 5e-324, -5e-324, math.inf, -math.inf]:
        key = int(number_keys(np.array([value]))[0])
        assert (low <= key <= high) == within(value, expression), value


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(LOW, HIGH) | st.integers(-(2**54), 2**54), min_size=1, max_size=5))
def test_integers_match_numbers_that_equal_them(compiler: FilterCompiler, ints: list[int]) -> None:
    program = compiler.compile(Match("price", ints=tuple(ints)))
    held = [i for i in sorted(set(ints)) if int(float(i)) == i]
    assert program.values.tolist() == [int(number_keys(np.array([float(i)]))[0]) for i in held]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (Match("langage", ("x",)), "filter.match.field: no field 'langage'; did you mean 'language'?"),
        (Exists("zzz"), "filter.exists.field: no field 'zzz'; known: groups, language, price, tags, year"),
        (Range("zzz"), "filter.range.field: no field 'zzz'"),
        (Exists("title"), "filter.exists.field: 'title' is text shown to people; it cannot be filtered"),
        (Match("title", ("x",)), "filter.match.field: 'title' is text"),
        (Match("language", ints=(1,)), "filter.match.ints: 'language' holds category; match it with strings"),
        (Match("tags", ("a",), (1,)), "filter.match.ints: 'tags' holds categories; match it with strings"),
        (Match("year", ("1",)), "filter.match.strings: 'year' holds integer; match it with ints"),
        (Match("groups", ("1",)), "filter.match.strings: 'groups' holds integers"),
        (Match("price", ("1",)), "filter.match.strings: 'price' holds number"),
        (Range("language", 1), "filter.range.field: 'language' holds category; a range needs .*year, price"),
        (Range("groups", 1), "filter.range.field: 'groups' holds integers; a range needs"),
        (Not(Exists("z")), "filter.not.exists.field: no field 'z'"),
        (All((Exists("year"), Exists("z"))), r"filter.all.filters\[1\].exists.field"),
        (Any((Exists("z"),)), r"filter.any.filters\[0\].exists.field"),
        (AtLeast(1, (Exists("year"), Not(Exists("z")))), r"filter.at_least.filters\[1\].not.exists.field"),
        (AtLeast(9, (Exists("z"),)), r"filter.at_least.filters\[0\].exists.field"),
    ],
)
def test_what_does_not_fit_the_schema_is_named(
    compiler: FilterCompiler, expression: Expression, message: str
) -> None:
    with pytest.raises(InvalidQuery, match=f"^{message}") as caught:
        compiler.compile(expression)
    assert str(caught.value).startswith(caught.value.path)


def test_a_surface_without_a_number_says_so() -> None:
    schema = Schema("s", (Field("tags", FieldKind.CATEGORIES),), ("t",))
    columns = {"tags": Column.of_strings(FieldKind.CATEGORIES, [["a"]])}
    compiler = FilterCompiler(schema, {"tags": ("a",)}, layout_of(schema, columns))
    with pytest.raises(InvalidQuery, match="this surface has none"):
        compiler.compile(Range("tags", 1))
