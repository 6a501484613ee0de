import struct
from collections.abc import Callable
from math import inf, nan

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.cel import FILTERS
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.filter.text import format_filter, parse_filter

A, B, C = (Match(name, (), (1,)) for name in "abc")
A_TO_B = Range("a", 1.0, 2.0, inclusive=True)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (Match("a", ("x",)), 'a == "x"'),
        (Match("a", ("x", 'y"\\')), r'a in ["x", "y\"\\"]'),
        (Match("a", (), (-1, 2)), "a in [-1, 2]"),
        (Not(A), "a != 1"),
        (Not(Match("a", (), (1, 2))), "!(a in [1, 2])"),
        (Not(Not(A)), "!(a != 1)"),
        (Not(Not(Not(Exists("a")))), "!(!(!has(a)))"),
        (Not(All()), "!true"),
        (Range("a", minimum=1990.0, inclusive=True), "a >= 1990"),
        (Range("a", maximum=-0.1), "a < -0.1"),
        (Range("a", maximum=2.0**53), "a < 9007199254740992"),
        (Range("a", maximum=2.0**54), "a < 1.8014398509481984e+16"),
        (Range("a", minimum=-inf), 'a > double("-inf")'),
        (Range("a", 1.0, 1.0, inclusive=True), "a == 1.0"),
        (Not(Range("a", inf, inf, inclusive=True)), 'a != double("inf")'),
        (AtLeast(2, (A, Any((B, C)), All())), "at_least(2, a == 1, b == 1 || c == 1, true)"),
        (Not(AtLeast(0)), "!at_least(0)"),
        (Any((All((A, B)), C)), "(a == 1 && b == 1) || c == 1"),
        (All((Any((A, B)), Not(Any((B, C))))), "(a == 1 || b == 1) && !(b == 1 || c == 1)"),
        (All((A, Any())), "a == 1 && false"),
    ],
)
def test_a_tree_is_one_text(expression: Expression, text: str) -> None:
    assert format_filter(expression) == text
    assert parse_filter(text) == expression


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (All((All((A, B)), All((C,)))), "a == 1 && b == 1 && c == 1"),
        (Any((All((A,)),)), "a == 1"),
        (Not(All((Any((A,)),))), "a != 1"),
        (Range("a"), "has(a)"),
        (Not(Range("a")), "!has(a)"),
        (A_TO_B, "a >= 1 && a <= 2"),
        (Not(A_TO_B), "!(a >= 1 && a <= 2)"),
        (Any((A_TO_B, B)), "(a >= 1 && a <= 2) || b == 1"),
        (All((B, A_TO_B)), "b == 1 && a >= 1 && a <= 2"),
        (Range("a", 1.0, 1.0), "a > 1 && a < 1"),
        (Range("a", -inf, inf, True), 'a >= double("-inf") && a <= double("inf")'),
        (Not(Match("a", ("x",), (1,))), '!(a == "x" || a == 1)'),
    ],
)
def test_other_trees_become_equivalent_ones(expression: Expression, text: str) -> None:
    assert format_filter(expression) == text
    assert format_filter(parse_filter(text)) == text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (Match("a"), "a in []"),
        (Range("a", minimum=nan), 'a > double("nan")'),
        (Range("a", nan, nan, True), 'a >= double("nan") && a <= double("nan")'),
        (Match("a", ("\ud800\n",)), r'a == "\ud800\n"'),
        (AtLeast(-1, (A,)), "at_least(-1, a == 1)"),
    ],
)
def test_what_holds_of_no_item_is_shown_but_not_read(expression: Expression, text: str) -> None:
    assert format_filter(expression) == text
    with pytest.raises(InvalidQuery):
        parse_filter(text)


@pytest.mark.parametrize("name", ["", "a b", "a == 1 || b", "é", "1a", "a\n", "true", "false", "null", "a.b"])
def test_a_field_that_cannot_be_written_is_an_error(name: str) -> None:
    for expression in (
        Match(name, (), (1,)),
        Range(name, 1.0),
        Exists(name),
        Not(Range(name, 1.0, 1.0, True)),
    ):
        with pytest.raises(InvalidQuery, match="filter: the field .* has no text form"):
            format_filter(expression)


def test_what_a_log_cannot_show_is_escaped() -> None:
    text = format_filter(
        Match("a", ("tab\t nul\0 line\r\n\u2028 right-to-left\u202e soft\xad tag\U000e0041 é 漢 😀",))
    )
    assert text == (
        r'a == "tab\t nul\u0000 line\r\n\u2028 right-to-left\u202e soft\u00ad tag\U000e0041 é 漢 😀"'
    )


@given(st.text())
@example("\\")
@example('\\"')
@example("\\u0041 \\n ' \" ''' \"\"\" // true ( [")
@settings(max_examples=300, deadline=None)
def test_any_string_survives(string: str) -> None:
    text = format_filter(Match("a", (string, string)))
    assert text.isprintable()
    assert parse_filter(text) == Match("a", (string, string))


@given(st.floats(allow_nan=False))
@example(5e-324)
@example(2.0**53 + 2)
@example(-(2.0**63))
@settings(deadline=None)
def test_any_number_survives_to_the_bit(number: float) -> None:
    equal = parse_filter(format_filter(Range("a", number, number, inclusive=True)))
    assert isinstance(equal, Range)
    assert equal.inclusive
    assert [struct.pack("d", bound) for bound in (equal.minimum, equal.maximum)] == [
        struct.pack("d", number)
    ] * 2
    # -0.0 bounds the same numbers as 0.0.
    below = Range("a", maximum=number)
    assert parse_filter(format_filter(below)) == below


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True) | st.sampled_from(
    ["in", "for", "has", "r"]
)
names = names.filter(lambda name: name not in ("true", "false", "null"))
bounds = st.none() | st.floats(allow_nan=False) | st.sampled_from([0.0, 1.0])
int64s = st.integers(-(2**63), 2**63 - 1)
leaves = st.one_of(
    st.builds(Match, names, st.lists(st.text(max_size=5), min_size=1, max_size=3).map(tuple)),
    st.builds(Match, names, st.just(()), st.lists(int64s, min_size=1, max_size=3).map(tuple)),
    st.builds(Match, names, st.just(("x",)), st.just((1,))),
    st.builds(Range, names, bounds, bounds, st.booleans()),
    st.builds(Exists, names),
)


def nodes(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    filters = st.lists(inner, max_size=3).map(tuple)
    counts = st.integers(0, 2**31 - 1)
    return st.one_of(
        st.builds(All, filters),
        st.builds(Any, filters),
        st.builds(AtLeast, counts, filters),
        st.builds(Not, inner),
    )


expressions = st.recursive(leaves, nodes, max_leaves=12)


def canonical(expression: Expression) -> Expression:
    """The tree that format_filter promises to give back, by rules of equivalence, bottom up."""
    match expression:
        case Match(field, strings, ints) if strings and ints:
            return Any((Match(field, strings), Match(field, (), ints)))
        case Range(field, None, None):
            return Exists(field)
        case Range(field, float(low), float(high), inclusive) if not (inclusive and low == high):
            return All((Range(field, low, None, inclusive), Range(field, None, high, inclusive)))
        case All(filters) | Any(filters):
            kind = type(expression)
            flat: list[Expression] = []
            for inner in map(canonical, filters):
                flat += inner.filters if isinstance(inner, kind) and inner.filters else [inner]
            return flat[0] if len(flat) == 1 else kind(tuple(flat))
        case AtLeast(count, filters):
            return AtLeast(count, tuple(map(canonical, filters)))
        case Not(inner):
            return Not(canonical(inner))
    return expression


@given(expressions)
@settings(max_examples=400, deadline=None)
def test_any_tree_survives(expression: Expression) -> None:
    text = format_filter(expression)
    read = parse_filter(text)
    assert read == canonical(expression)
    assert format_filter(read) == text


@pytest.mark.parametrize(
    ("nest", "levels"),
    [
        (Not, FILTERS.max_depth - 1),
        (lambda inner: AtLeast(1, (inner,)), FILTERS.max_depth - 1),
        (lambda inner: All((A, Any((B, inner)))), FILTERS.max_depth // 2 - 1),
    ],
)
def test_the_deepest_tree_that_parses_survives(nest: Callable[[Expression], Expression], levels: int) -> None:
    expression: Expression = Match("a", ("x", "y"))
    for _ in range(levels):
        expression = nest(expression)
    assert parse_filter(format_filter(expression)) == expression


def test_no_tree_is_too_deep_or_too_long_to_show() -> None:
    deep: Expression = Any((A, B))
    for _ in range(20_000):
        deep = Not(All((deep, C)))
    text = format_filter(deep)
    assert text.startswith("!(!(!(")
    assert text.endswith("a == 1 || b == 1)" + " && c == 1)" * 20_000)
    long = format_filter(Match("a", (), tuple(range(10_000))))
    assert len(long) > FILTERS.max_characters
    for refused in (text, long):
        with pytest.raises(InvalidQuery, match="characters, more than 16384"):
            parse_filter(refused)
