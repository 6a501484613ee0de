import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.model.errors import InvalidData
from meshfold.model.value.formula import (
    FUNCTIONS,
    SPACES,
    Call,
    Chain,
    Conditional,
    Has,
    Name,
    Node,
    Number,
    Truth,
    Unary,
)
from meshfold.model.value.text import FORMULAS, MAX_NODES, parse_formula


def parsed(text: str) -> Node:
    return parse_formula(text, lambda message: InvalidData(f"formulas.test: {message}")).root


A, B, C, ONE = Name("a"), Name("b"), Name("c"), Number(1.0)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a", A),
        ("((a))", A),
        ("tasks.a", Name("a", "tasks")),
        ("( features ) . hour", Name("hour", "features")),
        ("1", ONE),
        ("-1", Number(-1.0)),
        ("0x1F", Number(31.0)),
        (".5", Number(0.5)),
        ("1.5e-3", Number(0.0015)),
        ("007", Number(7.0)),
        ("9007199254740992", Number(2.0**53)),
        ("3.4028234663852886e38", Number(3.4028234663852886e38)),
        ("true", Truth(True)),
        ("has(a)", Has(A)),
        ("has((weights.a))", Has(Name("a", "weights"))),
        ("-a", Unary("-", A)),
        ("- 1", Unary("-", ONE)),
        ("!!a", Unary("!", Unary("!", A))),
        ("a -1", Chain(A, (("-", ONE),))),
        ("a- -1", Chain(A, (("-", Number(-1.0)),))),
        ("a - b + c - 1", Chain(A, (("-", B), ("+", C), ("-", ONE)))),
        ("(a - b) + c", Chain(A, (("-", B), ("+", C)))),
        ("a - (b + c)", Chain(A, (("-", Chain(B, (("+", C),))),))),
        ("a + b * c", Chain(A, (("+", Chain(B, (("*", C),))),))),
        ("a / b * c", Chain(A, (("/", B), ("*", C)))),
        ("-a * b", Chain(Unary("-", A), (("*", B),))),
        ("a + 1 < b", Chain(Chain(A, (("+", ONE),)), (("<", B),))),
        ("a<b&&b<=c", Chain(Chain(A, (("<", B),)), (("&&", Chain(B, (("<=", C),))),))),
        ("a&&b||c!=1", Chain(Chain(A, (("&&", B),)), (("||", Chain(C, (("!=", ONE),))),))),
        ("a ? b : c ? 1 : a", Conditional(A, B, Conditional(C, ONE, A))),
        ("a || b ? b + 1 : c", Conditional(Chain(A, (("||", B),)), Chain(B, (("+", ONE),)), C)),
        ("max(a, min(b, 1))", Call("max", (A, Call("min", (B, ONE))))),
        ("min + exp(log)", Chain(Name("min"), (("+", Call("exp", (Name("log"),))),))),
        ("a // + b\n + c", Chain(A, (("+", C),))),
    ],
)
def test_a_text_is_one_tree(text: str, tree: Node) -> None:
    assert parsed(text) == tree


_LEVELS = [("||",), ("&&",), ("==", "!=", "<", "<=", ">", ">="), ("+", "-"), ("*", "/")]


def level(node: Node) -> int:
    """How tightly a node binds: 0 the conditional, then the chains, then the rest."""
    if isinstance(node, Conditional):
        return 0
    if isinstance(node, Chain):
        return next(i for i, operators in enumerate(_LEVELS, 1) if node.rest[0][0] in operators)
    return 7 if not isinstance(node, Unary) else 6


def written(node: Node, least: int = 0) -> str:
    """The text of a tree, with brackets only where its parent binds more tightly."""
    own = level(node)
    match node:
        case Number(value):
            text = repr(value)
        case Truth(value):
            text = str(value).lower()
        case Name(name, space):
            text = f"{space}.{name}" if space else name
        case Has(name):
            text = f"has({written(name)})"
        case Unary(operator, operand):
            # -1 would be a number.
            text = operator + (
                f"({written(operand)})" if isinstance(operand, Number) else written(operand, 6)
            )
        case Chain(first, rest):
            text = written(first, own + 1)
            for operator, operand in rest:
                text += f" {operator} {written(operand, own + 1)}"
        case Call(function, given):
            text = f"{function}({', '.join(map(written, given))})"
        case Conditional(condition, then, otherwise):
            text = f"{written(condition, 1)} ? {written(then, 1)} : {written(otherwise)}"
    return f"({text})" if own < least else text


names = st.builds(
    Name,
    st.sampled_from(["a", "_b1", "in", "has", "min", "package", "similarity"]),
    st.sampled_from(["", *SPACES]),
)
leaves: st.SearchStrategy[Node] = (
    st.builds(Number, st.floats(allow_nan=False, width=32, allow_infinity=False))
    | st.builds(Truth, st.booleans())
    | names
    | st.builds(Has, names)
)


@st.composite
def chains(draw: st.DrawFn, inner: st.SearchStrategy[Node]) -> Chain:
    operators = draw(st.sampled_from(_LEVELS))
    most = 1 if operators == _LEVELS[2] else 4
    rest = draw(st.lists(st.tuples(st.sampled_from(operators), inner), min_size=1, max_size=most))
    first = draw(inner)
    if isinstance(first, Chain) and first.rest[0][0] in operators and most > 1:
        return Chain(first.first, (*first.rest, *rest))
    return Chain(first, tuple(rest))


def nodes(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    calls = st.sampled_from(sorted(FUNCTIONS)).flatmap(
        lambda name: st.builds(Call, st.just(name), st.tuples(*[inner] * FUNCTIONS[name]))
    )
    unary = st.builds(Unary, st.sampled_from("-!"), inner)
    return unary | calls | chains(inner) | st.builds(Conditional, inner, inner, inner)


trees = st.recursive(leaves, nodes, max_leaves=20)


@given(trees)
@settings(max_examples=300, deadline=None)
def test_any_tree_survives(tree: Node) -> None:
    assert parsed(written(tree)) == tree


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "a formula or an operand is missing"),
        ("a +\n", 2, 1, "a formula or an operand is missing"),
        ("a +\n  * b", 2, 3, "expected an operand here"),
        ("a b", 1, 3, "expected an operator here"),
        ("a and b", 1, 3, "write && for and"),
        ("(a", 1, 1, "the bracket is not closed"),
        ("a + 'x'", 1, 5, "a string is not supported; a formula has + - * /"),
        ("a  % b", 1, 4, "the remainder % is not supported"),
        ("b + (a in [1])", 1, 8, "the operator in is not supported"),
        ("[1]", 1, 1, "a list is not supported"),
        ("{}", 1, 1, "a map is not supported"),
        ("a + 1u", 1, 5, "an unsigned integer is not supported"),
        ("null", 1, 1, "null is not supported"),
        ("a.size()", 1, 1, "a method is not supported"),
        ("1 + a[0]", 1, 5, "an index is not supported"),
        ("pow(a, 2)", 1, 1, "the function pow is not supported; a formula has"),
        ("item.year", 1, 1, "names begin with tasks., fields., weights., features. or have no dot"),
        ("1 + weights.a.b", 1, 5, "names begin with tasks."),
        ("min(a)", 1, 1, "min takes two numbers, got 1"),
        ("exp(a, b)", 1, 1, "exp takes one number, got 2"),
        ("exp()", 1, 1, "exp takes one number, got 0"),
        ("has()", 1, 1, "has takes one name"),
        ("has(a + b)", 1, 1, "has takes one name"),
        ("1e39", 1, 1, "a number must lie within +-3.4028234663852886e+38"),
        ("-1e999", 1, 1, "a number must lie within"),
        ("9" * 4_000, 1, 1, "a number must lie within"),
        (
            "1 + 9007199254740993",
            1,
            5,
            "a number is a float64, not 9007199254740993; write 9007199254740992.0",
        ),
    ],
)
def test_an_error_says_where_and_what(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(InvalidData) as error:
        parsed(text)
    assert str(error.value).startswith(f"formulas.test: line {line}, column {column}, at ")
    assert f": {message}" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_length_is_limited() -> None:
    assert parsed("a".ljust(FORMULAS.max_characters)) == A
    with pytest.raises(InvalidData, match="the text has 4097 characters, more than 4096; split it"):
        parsed("a".ljust(FORMULAS.max_characters + 1))


@pytest.mark.parametrize(
    ("opening", "closing", "levels"),
    [("-", "", 31), ("a + b * (", ")", 15), ("exp(", ")", 31), ("a ? b : ", "", 31)],
)
def test_the_depth_is_limited(opening: str, closing: str, levels: int) -> None:
    parsed(opening * levels + "a" + closing * levels)
    with pytest.raises(InvalidData, match="formulas must be nested at most 32 deep"):
        parsed(opening * (levels + 1) + "a" + closing * (levels + 1))


def test_the_depth_of_brackets_is_limited() -> None:
    assert parsed("(" * 32 + "a" + ")" * 32) == A
    with pytest.raises(InvalidData, match="line 1, column 33, .*brackets must be nested at most 32 deep"):
        parsed("(" * 33 + "a" + ")" * 33)


def test_the_number_of_nodes_is_limited() -> None:
    # 128 operands and 127 operators, and a sign.
    chain = "+".join(["a"] * (MAX_NODES // 2 - 1))
    parsed(f"{chain} + -a")
    with pytest.raises(InvalidData, match="a formula has at most 256 operands and operators"):
        parsed(f"{chain} + --a")


_FRAGMENTS = ["a", "1", "2.5", "true", "'x'", "has(", "min(", "features.", "(", ")", ",", "?", ":", "!", "-"]
_FRAGMENTS += ["+", "*", "/", "%", "<", "==", "&&", "||", "in", "[", "]", ".", "//", "\n", " ", "é", "0x"]


@given(st.lists(st.sampled_from(_FRAGMENTS), max_size=20).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_formula_or_the_publishers_fault(text: str) -> None:
    with suppress(InvalidData):
        parsed(text)


@pytest.mark.parametrize(
    "text", ["-" * 4_000 + "1", "a ? " * 1_000, "1." * 2_000, "a.b" * 1_300, ")" * 4_000]
)
def test_hostile_text_is_refused_at_once(text: str) -> None:
    start_s = time.monotonic()
    with pytest.raises(InvalidData):
        parsed(text)
    # Well below a second where linear.
    assert time.monotonic() - start_s < 30
