from typing import Any

import pytest

from meshfold.model.errors import InvalidData
from meshfold.model.value.config import ValueConfig, Weight, value_config

LIKE = {"default": 0.7, "min": 0, "max": 2.0}


def test_the_tables_of_a_schema_file() -> None:
    raw = {"default": "recent", "recent": "weights.like * like", "plain": "like"}
    assert value_config(raw, {"like": LIKE}) == ValueConfig(
        formulas={"recent": "weights.like * like", "plain": "like"},
        default="recent",
        weights={"like": Weight(0.7, 0.0, 2.0)},
    )
    assert value_config({"plain": "like"}, {}).default == "similarity"
    assert value_config({}, {}) == ValueConfig()


@pytest.mark.parametrize(
    ("formulas", "weights", "message"),
    [
        ({"a": 1}, {}, "formulas.a must be a string, got 1"),
        ({"default": ["a"]}, {}, "formulas.default must be a string"),
        (
            {"default": "recnt", "recent": "a"},
            {},
            "formulas.default names no formula 'recnt'; did you mean 'recent'",
        ),
        ({"similarity": "a"}, {}, "formulas.similarity is built in"),
        ({"a b": "a"}, {}, "formulas.a b: a name is a letter or _"),
        ({f"f{i}": "a" for i in range(65)}, {}, "formulas has 65 entries, more than 64"),
        ({}, {f"w{i}": LIKE for i in range(65)}, "weights has 65 entries, more than 64"),
        ({}, {"like": 0.7}, "weights.like must be a table, as in { default = 0.5"),
        ({}, {"like": {"default": 1.0, "min": 0.0}}, "weights.like.max is missing; set it to a number"),
        ({}, {"like": LIKE | {"mx": 1.0}}, "weights.like.mx is no key of a weight; did you mean 'max'"),
        ({}, {"like": LIKE | {"max": "2"}}, "weights.like.max must be a number within +-3.4"),
        ({}, {"like": LIKE | {"max": True}}, "weights.like.max must be a number"),
        ({}, {"like": LIKE | {"max": float("inf")}}, "weights.like.max must be a number"),
        ({}, {"like": LIKE | {"min": float("nan")}}, "weights.like.min must be a number"),
        ({}, {"like": LIKE | {"max": 10**400}}, "weights.like.max must be a number"),
        (
            {},
            {"like": LIKE | {"default": 3}},
            "weights.like: the default must lie between minimum and maximum",
        ),
        ({}, {"li.ke": LIKE}, "weights.li.ke: a name is a letter or _"),
    ],
)
def test_what_does_not_fit_is_named(formulas: dict[str, Any], weights: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidData) as error:
        value_config(formulas, weights)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_weight_beyond_float32_is_refused() -> None:
    with pytest.raises(InvalidData, match="weights.a: the maximum must lie within"):
        ValueConfig(weights={"a": Weight(0.0, 0.0, 1e39)})
