import subprocess
import sys
import time
from contextlib import suppress
from math import inf

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.cel import FILTERS, expression_of
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range

A, B, C, D = (Match(name, (), (1,)) for name in "abcd")


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("a == 1", A),
        ("1 == a", A),
        ("(a) == (1)", A),
        ('a == "x"', Match("a", ("x",))),
        ("a != 1", Not(A)),
        ("1 != a", Not(A)),
        ("a == 1.0", Range("a", 1.0, 1.0, True)),
        ("a != .5", Not(Range("a", 0.5, 0.5, True))),
        ('a in ["x", r"y\\", "x"]', Match("a", ("x", "y\\", "x"))),
        ("a in [1, -2, 0x10, - 3]", Match("a", (), (1, -2, 16, -3))),
        ("1 in a", A),
        ('"x" in a', Match("a", ("x",))),
        ('a in(["x"])', Match("a", ("x",))),
        ("a == 007", Match("a", (), (7,))),
        ("a == -9223372036854775808", Match("a", (), (-(2**63),))),
        ("a == - 9223372036854775808", Match("a", (), (-(2**63),))),
        ("a == 0x7FFFFFFFFFFFFFFF", Match("a", (), (2**63 - 1,))),
        ("a < 1", Range("a", maximum=1.0)),
        ("a <= 1", Range("a", maximum=1.0, inclusive=True)),
        ("a > 1", Range("a", minimum=1.0)),
        ("a >= 1", Range("a", minimum=1.0, inclusive=True)),
        ("1 < a", Range("a", minimum=1.0)),
        ("1 <= a", Range("a", minimum=1.0, inclusive=True)),
        ("1 > a", Range("a", maximum=1.0)),
        ("1 >= a", Range("a", maximum=1.0, inclusive=True)),
        ("a>-1.5e3", Range("a", minimum=-1500.0)),
        ("a > -(0x10)", Range("a", minimum=-16.0)),
        ("a > 9007199254740992", Range("a", minimum=2.0**53)),
        ("a > 1152921504606846976", Range("a", minimum=2.0**60)),
        ('a < double("inf")', Range("a", maximum=inf)),
        ("a != double('-inf')", Not(Range("a", -inf, -inf, True))),
        ("has(a)", Exists("a")),
        ("!has((a))", Not(Exists("a"))),
        ("true", All()),
        ("false", Any()),
        ("!true", Not(All())),
        ("!!(a == 1)", Not(Not(A))),
        ("a == 1 && b == 1 && c == 1", All((A, B, C))),
        ("a == 1 || b == 1 || c == 1", Any((A, B, C))),
        ("a == 1 || b == 1 && c == 1 || d == 1", Any((A, All((B, C)), D))),
        ("(a == 1 || b == 1) && (c == 1 || d == 1)", All((Any((A, B)), Any((C, D))))),
        ("((a == 1 && b == 1) && (c == 1 && (d == 1)))", All((A, B, C, D))),
        ("a == 1 && true", All((A, All()))),
        ("!(a == 1 && b == 1)", Not(All((A, B)))),
        ("at_least(2, a == 1, b == 1 || c == 1, d == 1)", AtLeast(2, (A, Any((B, C)), D))),
        ("at_least(0)", AtLeast(0)),
        ("at_least(2147483647, true)", AtLeast(2**31 - 1, (All(),))),
        ("has == 1 || at_least == 1", Any((Match("has", (), (1,)), Match("at_least", (), (1,))))),
        ("trueish == 1 && nullable == 1", All((Match("trueish", (), (1,)), Match("nullable", (), (1,))))),
        ("package == 1 || in == 1", Any((Match("package", (), (1,)), Match("in", (), (1,))))),
        ('a == 1 // && b == 1 "\n\t&& c == 1 //', All((A, C))),
        ("_a1 == 1", Match("_a1", (), (1,))),
    ],
)
def test_a_text_is_one_tree(text: str, expression: Expression) -> None:
    assert expression_of(text) == expression


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "a filter or an operand is missing"),
        (" // all\n", 2, 1, "a filter or an operand is missing"),
        ("a ==", 1, 5, "a filter or an operand is missing"),
        ("a == 1)", 1, 7, "expected an operator here"),
        ("a == 1 &&\n  && b == 1", 2, 3, "expected an operand here"),
        ('a == """\n\n""" é', 3, 5, "expected an operator here"),
        ("a == ''\"x\"''", 1, 6, "expected a string or a number"),
        ("a = 1", 1, 3, "write == for ="),
        ("a == 1 and b == 1", 1, 8, "write && for and"),
        ("not (a == 1 or b == 1)", 1, 13, "write || for or"),
        ("a not in [1]", 1, 3, "write ! for not"),
        ("not a == 1", 1, 5, "write ! for not"),
        ("a inb", 1, 3, "write a space after in"),
        ("1 intrue", 1, 3, "write a space after in"),
        ("a", 1, 1, "expected a filter; compare the operand, as in a == 1"),
        ("a == 1 && 5", 1, 11, "expected a filter"),
        ('a == 1 || "x"', 1, 11, "expected a filter"),
        ("a == b", 1, 6, "expected a string or a number"),
        ("b == 1 && a == true", 1, 16, "expected a string or a number"),
        ("a in [1, false]", 1, 10, "expected a string or a number"),
        ("1 == 1", 1, 1, "expected the name of a field"),
        ("1 < a < 5", 1, 1, "expected the name of a field; comparisons do not chain"),
        ("!a == 1", 1, 1, "expected the name of a field; ! takes the next operand alone"),
        ('a < "x"', 1, 5, "only numbers are ordered; compare strings with ==, != or in"),
        ("a in []", 1, 6, "a match without values; list at least one, or write false"),
        ('a in [1, "x"]', 1, 6, "the values of a match must be all strings or all int"),
        ("a in [1, 2.0]", 1, 6, "the values of a match must be all strings or all int"),
        ("1.5 in a", 1, 1, "the values of a match must be all strings or all integers"),
        ("a == 9223372036854775808", 1, 6, "an integer must fit int64"),
        ("a == -9223372036854775809", 1, 6, "an integer must fit int64"),
        ("a == " + "9" * 5_000, 1, 6, "an integer must fit int64"),
        ("a > 9007199254740993", 1, 5, "a bound is a float64"),
        ("-9007199254740993 < a", 1, 1, "a bound is a float64"),
        ("a > -1e999", 1, 5, 'a number must fit float64; infinity is double("-inf")'),
        ('a > double("nan")', 1, 5, 'double takes "inf" or "-inf"'),
        ("a > double()", 1, 5, 'double takes "inf" or "-inf"'),
        ("has()", 1, 1, "has takes one field, got 0 arguments"),
        ("has(a, b)", 1, 1, "has takes one field, got 2 arguments"),
        ("has(1)", 1, 5, "expected the name of a field"),
        ("at_least()", 1, 1, "at_least takes a count from 0 to 2147483647"),
        ("at_least(a == 1)", 1, 10, "expected a string or a number"),
        ("at_least(-1, a == 1)", 1, 1, "at_least takes a count from 0"),
        ("at_least(2147483648, a == 1)", 1, 1, "at_least takes a"),
        ("at_least(1.0, a == 1)", 1, 1, "at_least takes a count from 0"),
        ("at_least(1, a)", 1, 13, "expected a filter"),
        ("size(a) == 1", 1, 1, "expected the name of a field"),
        ("null == 1", 1, 1, "null is not supported"),
    ],
)
def test_an_error_says_where_and_what(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(InvalidQuery) as error:
        expression_of(text)
    assert str(error.value).startswith(f"filter: line {line}, column {column}, at ")
    assert f": {message}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("a == 1 && a + 1 > 2", 11, "arithmetic"),
        ("a > 2 * 3", 5, "arithmetic"),
        ("a % 2 == 0", 1, "arithmetic"),
        ("-a == 1", 1, "arithmetic"),
        ("a == --1", 6, "arithmetic"),
        ("a == -'x'", 6, "arithmetic"),
        ("a == 1 ? b == 1 : c == 1", 1, "the conditional ? :"),
        ("(a ? b : c) == 1", 2, "the conditional ? :"),
        ("item.year == 1", 1, "access to a member"),
        ("has(item.year)", 5, "access to a member"),
        ('a.startsWith("x")', 1, "a method"),
        ("a.all(b, b == 1)", 1, "a method"),
        ('size("x")', 1, "the function size"),
        ("a[0] == 1", 1, "an index"),
        ("Item{a: 1}", 1, "a message literal"),
        (".a == 1", 1, "a leading dot"),
        (".has(a)", 1, "a leading dot"),
        ("[1]", 1, "a list other than in `field in [...]`"),
        ("a == [1]", 6, "a list other than in `field in [...]`"),
        ("a in [[1]]", 7, "a list other than in `field in [...]`"),
        ('{"a": 1}', 1, "a map"),
        ("a == 1u", 6, "an unsigned integer"),
        ('a == b"x"', 6, "a bytes literal"),
        ("a == null", 6, "null"),
    ],
)
def test_the_rest_of_cel_is_refused_by_name(text: str, column: int, what: str) -> None:
    with pytest.raises(InvalidQuery) as error:
        expression_of(text)
    assert str(error.value).startswith(f"filter: line 1, column {column}, at ")
    assert f": {what} is not supported; a filter has == != < <= " in str(error.value)


_WORDS = ["a", "b", "in", "true", "false", "null", "r", 'b"', "has(", "at_least(2,", "double("]
_NUMBERS = ["1", "-2", "3.5", "4u", "0x", "1e9", ".5"]
_STRINGS = ["'x'", '"y"', "r'\\'", "'", '"', "'''", '"""', "\\", "\\\\", "\\n", "\\u00e9", "//"]
_OPERATORS = ["==", "!=", "<", "<=", ">", ">=", "&&", "||", *"!-+*/%?:.,()[]{}"]
_FRAGMENTS = [*_WORDS, *_NUMBERS, *_STRINGS, *_OPERATORS, *" \n\r\0é"]


@given(st.lists(st.sampled_from(_FRAGMENTS), max_size=20).map("".join))
@example("true.a.true")
@example("1r'x' in true")
@example("a in r'x'")
@example("'a'r'b'b'c'")
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_filter_or_the_callers_fault(text: str) -> None:
    with suppress(InvalidQuery):
        expression_of(text)


def test_filters_are_nested_to_a_limit() -> None:
    bangs = FILTERS.max_depth - 1
    expression = expression_of("!" * bangs + "has(a)")
    for _ in range(bangs):
        assert isinstance(expression, Not)
        expression = expression.filter
    assert expression == Exists("a")
    for text, column in (
        ("!" * FILTERS.max_depth + "has(a)", 65),
        ("!" * 16_000 + "true", 65),
        ("!(a == 1 || " * 40 + "a == 1" + ")" * 40, 375),
    ):
        with pytest.raises(
            InvalidQuery, match=f"line 1, column {column}, .*filters must be nested at most 64 deep"
        ):
            expression_of(text)


@pytest.mark.parametrize("operator", ["&&", "||"])
def test_the_longest_chain_is_one_node(operator: str) -> None:
    terms = (FILTERS.max_characters + 2) // len("a<1&&")
    expression = expression_of(operator.join(["a<1"] * terms))
    assert expression == (All if operator == "&&" else Any)((Range("a", maximum=1.0),) * terms)


@pytest.mark.parametrize(
    "text",
    [
        'a == "' + "\\a" * 8_000,
        "a == r'" + "\\'" * 8_000,
        "a == '''" + "\\a" * 8_000,
        "-" * 16_000 + "1 < a",
        "[" * 16_000,
        ")" * 16_000,
        "1." * 8_000,
        "a == 1 ? " * 1_800 + "true",
        "a in [" + "'" * 16_000 + "]",
        "a.b" * 5_000,
    ],
)
def test_hostile_text_is_refused_at_once(text: str) -> None:
    start_s = time.monotonic()
    with pytest.raises(InvalidQuery):
        expression_of(text)
    # Seconds where linear, centuries where exponential.
    assert time.monotonic() - start_s < 30


_FIRST_USE = """
import sys, threading
from meshfold.model.filter.cel import expression_of
assert "celpy" not in sys.modules and "lark" not in sys.modules
text = "true && (in == 1 || has(a)) && !(x in [1, 2]) && 1.5 < y && 'a' in b"
sys.setswitchinterval(1e-6)
answers, start = [], threading.Barrier(8)
def work():
    start.wait()
    for _ in range(5):
        answers.append(expression_of(text))
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(answers) == 40 and all(answer == answers[0] for answer in answers), set(map(str, answers))
"""


def test_threads_agree_from_the_first_use_on() -> None:
    subprocess.run([sys.executable, "-c", _FIRST_USE], check=True, timeout=60)
