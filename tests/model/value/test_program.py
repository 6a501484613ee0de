import math
import struct
from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.value.formula import LARGEST
from meshfold.model.errors import InvalidData
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.value.config import ValueConfig, Weight
from meshfold.model.value.formulas import ValueFormulas, padded
from meshfold.model.value.module import ValueModel
from meshfold.model.value.program import compile_formulas

SCHEMA = Schema(
    surface="movies",
    fields=(
        Field("title", FieldKind.TEXT),
        Field("year", FieldKind.INTEGER),
        Field("genres", FieldKind.CATEGORIES),
        Field("price", FieldKind.NUMBER),
        Field("like", FieldKind.INTEGER),
    ),
    tasks=("watch", "like"),
)
WEIGHTS = {"like": Weight(0.5, 0.0, 2.0), "old": Weight(-1.0, -10.0, 0.0)}


def compiled(*texts: str, weights: Mapping[str, Weight] = WEIGHTS) -> ValueFormulas:
    formulas = {f"f{i}": text for i, text in enumerate(texts)}
    uses = " + ".join(f"weights.{name}" for name in weights)
    return compile_formulas(SCHEMA, ValueConfig(formulas | {"uses": uses or "1"}, "f0", weights))


# A formula as text, and what it says in Python: of the numbers by name, of which some may be missing.
Numbers = Mapping[str, float | None]
Pair = tuple[str, Callable[[Numbers], float]]


def within(x: float) -> float:
    return max(-LARGEST, min(LARGEST, x))


def read(numbers: Numbers, name: str) -> float:
    number = numbers[name]
    return 0.0 if number is None or math.isnan(number) else within(number)


def named(text: str, name: str) -> Pair:
    return text, lambda numbers: read(numbers, name)


def flag(text: str, name: str) -> Pair:
    return text, lambda numbers: float(numbers[name] is not None)


def literal(number: float) -> Pair:
    return repr(number), lambda numbers: number


_BINARY: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: within(a + b),
    "-": lambda a, b: within(a - b),
    "*": lambda a, b: within(a * b),
    "/": lambda a, b: within(a / b) if b else 0.0,
    "==": lambda a, b: float(a == b),
    "!=": lambda a, b: float(a != b),
    "<": lambda a, b: float(a < b),
    "<=": lambda a, b: float(a <= b),
    ">": lambda a, b: float(a > b),
    ">=": lambda a, b: float(a >= b),
    "&&": lambda a, b: float(bool(a) and bool(b)),
    "||": lambda a, b: float(bool(a) or bool(b)),
}
_CALLS: dict[str, Callable[[float, float], float]] = {"min": min, "max": max}


def binary(a: Pair, operator: str, b: Pair) -> Pair:
    return f"({a[0]}) {operator} ({b[0]})", lambda n: _BINARY[operator](a[1](n), b[1](n))


def call(name: str, a: Pair, b: Pair) -> Pair:
    return f"{name}({a[0]}, {b[0]})", lambda n: _CALLS[name](a[1](n), b[1](n))


def root(a: Pair) -> Pair:
    return f"sqrt({a[0]})", lambda n: math.sqrt(x) if (x := a[1](n)) > 0 else 0.0


def conditional(c: Pair, a: Pair, b: Pair) -> Pair:
    return f"({c[0]}) ? ({a[0]}) : ({b[0]})", lambda n: a[1](n) if c[1](n) else b[1](n)


NAMES = {
    "watch": "watch",
    "tasks.like": "tasks.like",
    "fields.like": "fields.like",
    "year": "year",
    "fields.price": "price",
    "similarity": "similarity",
    "weights.like": "weights.like",
    "weights.old": "weights.old",
    "features.hour": "hour",
}
FLAGS = {
    "has(year)": "year",
    "has(fields.like)": "fields.like",
    "has(price)": "price",
    "has(features.hour)": "hour",
}
float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
arithmetic, comparisons = st.sampled_from("+-*/"), st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
terms = st.builds(literal, float32s | st.sampled_from([0.0, 1.0, 0.1, 1e30])) | st.builds(
    lambda item: named(*item), st.sampled_from(sorted(NAMES.items()))
)
flags = st.builds(lambda item: flag(*item), st.sampled_from(sorted(FLAGS.items())))


def truths(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    basic = st.builds(binary, inner, comparisons, inner) | flags
    negated = st.builds(lambda t: (f"!({t[0]})", lambda n: 1.0 - t[1](n)), basic)
    return basic | negated | st.builds(binary, basic, st.sampled_from(["&&", "||"]), negated)


def pairs(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return (
        st.builds(binary, inner, arithmetic, inner)
        | st.builds(call, st.sampled_from(["min", "max"]), inner, inner)
        | st.builds(root, inner)
        | st.builds(lambda a: (f"-({a[0]})", lambda n: -a[1](n)), inner)
        | st.builds(conditional, truths(inner), inner, inner)
    )


formulas = st.recursive(terms, pairs, max_leaves=10)
# What items may hold: any float at all, or nothing; NaN from a broken task counts as 0.
items = st.fixed_dictionaries(
    {
        "watch": st.floats(width=32),
        "tasks.like": st.floats(width=32),
        "similarity": st.floats(width=32),
        "fields.like": st.none() | st.integers(-(2**63), 2**63 - 1).map(float),
        "year": st.none() | st.integers(1900, 2030).map(float),
        "price": st.none() | st.floats(allow_nan=False),
    }
)
requests = st.tuples(
    formulas,
    st.none() | st.floats(0, 2, width=32),
    st.none() | st.floats(-10, 0, width=32),
    st.none() | float32s,
)


@settings(deadline=None, max_examples=250)
@given(st.lists(requests, min_size=1, max_size=3), st.lists(items, min_size=1, max_size=4))
def test_any_batch_of_formulas_is_what_python_computes_to_the_bit(
    batch: list[tuple[Pair, float | None, float | None, float | None]],
    candidates: list[dict[str, float | None]],
) -> None:
    surface = compiled(*(formula[0] for formula, *_ in batch))
    queries, expected = [], []
    for i, ((text, python), like, old, hour) in enumerate(batch):
        weights = {
            name: weight
            for name, weight in (("like", like), ("old", old))
            if weight is not None and f"weights.{name}" in text
        }
        features = {} if hour is None else {"hour": torch.tensor([hour]).numpy()}
        queries.append(surface.prepare(f"f{i}", weights, features))
        request = {
            "weights.like": weights.get("like", 0.5),
            "weights.old": weights.get("old", -1.0),
            "hour": hour,
        }
        expected.append([bits_of(python({**item, **request})) for item in candidates])
    steps, constants = map(torch.from_numpy, padded(queries))
    b, m = len(batch), len(candidates)

    def rows(*names: str) -> torch.Tensor:
        own = [[math.nan if item[name] is None else item[name] for item in candidates] for name in names]
        return torch.tensor(own, dtype=torch.float64).reshape(1, len(names), m).expand(b, -1, -1)

    held = [{"like": "fields.like"}.get(name, name) for name in surface.fields]
    fields = rows(*held)
    present = torch.tensor(
        [[item[name] is not None for item in candidates] for name in held], dtype=torch.bool
    )
    values = ValueModel()(
        steps,
        constants,
        rows("watch", "tasks.like").float(),
        rows("similarity")[:, 0].float(),
        fields,
        present.reshape(1, len(held), m).expand(b, -1, -1),
    )
    assert values.view(torch.int32).tolist() == expected


def bits_of(number: float) -> int:
    """Of the float32 next to it, without the sign of a zero."""
    bits: int = struct.unpack("i", struct.pack("f", number))[0]
    return 0 if bits == -(2**31) else bits


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("1 + wach", 5, "no task or field of numbers 'wach'; did you mean 'watch'?"),
        ("year + like", 8, "names a task and a field; write tasks.like or fields.like"),
        ("has(like) ? 1 : 0", 5, "names a task and a field; write tasks.like or fields.like"),
        ("tasks.year", 1, "no task 'year'; known: like, watch"),
        ("fields.watch", 1, "no field of numbers 'watch'; known: like, price, year"),
        ("2 * genres", 5, "the field holds categories, not one number; known: like, price, year"),
        ("title", 1, "the field holds text, not one number"),
        ("weights.lik", 1, "no weight 'lik'; did you mean 'like'?"),
        ("features.query_vector", 1, "a query vector is not one number; use similarity"),
        ("has(watch) ? 1 : 0", 5, "is never missing; has takes a field or a feature"),
        ("has(similarity) ? 1 : 0", 5, "is never missing; has takes a field or a feature"),
        ("has(weights.like) ? 1 : 0", 5, "is never missing; has takes a field or a feature"),
        ("has(yeer) ? 1 : 0", 5, "no task or field of numbers 'yeer'; did you mean 'year'?"),
        ("year ? 1 : 0", 1, "expected a truth value, got a number; compare it, as in a > 0"),
        ("year > 1", 1, "expected a number, got a truth value; comparisons do not chain"),
        (
            "1 < year < 3 ? 1 : 0",
            1,
            "expected a number, got a truth value; comparisons do not chain (write 1 < a",
        ),
        ("has(year)", 1, "expected a number, got a truth value; make a number of it with ? 1 : 0"),
        ("1 + true", 5, "expected a number, got a truth value; make a number of it with ? 1 : 0"),
        ("(year > 1 && 2) ? 1 : 0", 14, "expected a truth value, got a number"),
        ("!year ? 1 : 0", 2, "expected a truth value, got a number"),
        ("-has(year)", 2, "expected a number, got a truth value"),
        ("has(year) ? has(price) : 0", 13, "expected a number, got a truth value"),
        ("max(1, true)", 8, "expected a number, got a truth value"),
        ("year == true ? 1 : 0", 9, "expected a number, got a truth value"),
        ("year in [1]", 6, "the operator in is not supported"),
    ],
)
def test_what_does_not_fit_the_schema_is_named_with_its_place(text: str, column: int, message: str) -> None:
    with pytest.raises(InvalidData) as error:
        compiled(text)
    assert str(error.value).startswith(f"formulas.f0: line 1, column {column}, at ")
    assert f": {message}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_weight_that_nothing_names_is_refused() -> None:
    with pytest.raises(InvalidData, match=r"weights.like is named by no formula; write weights.like in one"):
        compile_formulas(SCHEMA, ValueConfig({"a": "watch"}, weights={"like": WEIGHTS["like"]}))
    with pytest.raises(InvalidData, match=r"there are \[weights\] but no \[formulas\]"):
        compile_formulas(SCHEMA, ValueConfig(weights=WEIGHTS))


def test_programs_read_only_fields_that_formulas_name() -> None:
    assert compiled("price + watch", "has(year) ? price : 1").fields == ("price", "year")
    assert compiled("watch + features.hour").fields == ()


def test_truth_can_be_chosen_by_a_condition() -> None:
    surface = compiled("(has(year) ? year > 2000 : false) ? 1 : 0", weights={})
    query = surface.prepare("f0", {}, {})
    steps, constants = map(torch.from_numpy, padded([query]))
    years = torch.tensor([[[1999.0, 2001.0, 2001.0]]], dtype=torch.float64)
    present = torch.tensor([[[True, True, False]]])
    values = ValueModel()(steps, constants, torch.zeros((1, 2, 3)), torch.zeros((1, 3)), years, present)
    assert values.tolist() == [[0.0, 1.0, 0.0]]
