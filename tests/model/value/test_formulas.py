import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from meshfold.kernels.value.formula import LARGEST
from meshfold.model.errors import InvalidData, InvalidQuery, UnknownName
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.types import FeatureList
from meshfold.model.value.config import ValueConfig, Weight
from meshfold.model.value.formulas import ValueFormulas, padded
from meshfold.model.value.program import compile_formulas

SCHEMA = Schema("movies", (Field("year", FieldKind.INTEGER),), ("watch", "like"))
DECLARED = compile_formulas(
    SCHEMA,
    ValueConfig(
        {"recent": "year >= 1990 ? weights.a * like : features.hour", "plain": "watch"},
        "recent",
        {"a": Weight(0.7, 0.1, 2.0)},
    ),
)
BUILT_IN = compile_formulas(SCHEMA, ValueConfig())


def test_defaults_and_what_a_request_sets() -> None:
    query = DECLARED.prepare("", {}, {})
    assert query.formula == "recent"
    assert query.constants.tolist() == [1990.0, float(np.float32(0.7)), 0.0, 0.0]
    query = DECLARED.prepare("recent", {"a": 1.5}, {"hour": np.array([23], np.int64), "other": ("x",)})
    assert query.constants.tolist() == [1990.0, 1.5, 23.0, 1.0]
    # Missing, and a list of nothing.
    assert DECLARED.prepare("", {}, {"hour": np.empty(0, np.float32)}).constants.tolist()[2:] == [0.0, 0.0]
    assert DECLARED.prepare("plain", {}, {"hour": ("x",)}).formula == "plain"


def test_sending_the_default_as_a_float32_changes_nothing() -> None:
    sent = DECLARED.prepare("", {"a": float(np.float32(0.7))}, {})
    assert sent.constants.tobytes() == DECLARED.prepare("", {}, {}).constants.tobytes()


def test_formulas_of_a_surface_that_declares_none() -> None:
    assert BUILT_IN.prepare("", {}, {}).formula == "similarity"
    query = BUILT_IN.prepare("", {"like": -3.0}, {})
    assert query.formula == "weighted"
    assert sorted(query.constants.tolist()) == [-3.0, 0.0]
    assert BUILT_IN.prepare("weighted", {"like": LARGEST, "watch": -LARGEST}, {}).formula == "weighted"


def test_one_task_is_a_weighted_sum_too() -> None:
    one = compile_formulas(Schema("movies", (), ("watch",)), ValueConfig())
    assert one.prepare("", {"watch": 2.0}, {}).steps.tolist() == [[1, 0], [2, 0], [10, 0]]


def test_any_number_of_tasks_has_a_weighted_sum() -> None:
    tasks = tuple(f"task_{'x' * 50}_{i}" for i in range(300))
    many = compile_formulas(Schema("movies", (), tasks), ValueConfig())
    assert len(many.prepare("", {tasks[0]: 1.0}, {}).steps) == 4 * 300 - 1


@pytest.mark.parametrize(
    ("formulas", "name", "weights", "path", "message"),
    [
        (DECLARED, "", {"a": 2.1}, 'task_weights["a"]', "must lie between 0.1 and 2, got 2.1"),
        (DECLARED, "", {"a": 0.0}, 'task_weights["a"]', "must lie between 0.1 and 2, got 0"),
        (DECLARED, "", {"a": float("nan")}, 'task_weights["a"]', "must lie between 0.1 and 2, got nan"),
        (DECLARED, "", {"b": 1.0}, 'task_weights["b"]', "formula 'recent' has no such weight; known: a"),
        (DECLARED, "plain", {"a": 1.0}, "task_weights", "formula 'plain' takes no weights; 'recent' does"),
        (
            BUILT_IN,
            "similarity",
            {"like": 1.0},
            "task_weights",
            "formula 'similarity' takes no weights; 'weighted' d",
        ),
        (
            BUILT_IN,
            "weighted",
            {},
            "task_weights",
            "formula 'weighted' needs the weight of at least one task",
        ),
        (BUILT_IN, "", {"lke": 1.0}, 'task_weights["lke"]', "has no such weight; did you mean 'like'?"),
        (BUILT_IN, "", {"like": 1e39}, 'task_weights["like"]', "must lie between -3.40282e+38 and"),
    ],
)
def test_weights_that_do_not_fit(
    formulas: ValueFormulas, name: str, weights: Mapping[str, float], path: str, message: str
) -> None:
    with pytest.raises(InvalidQuery) as error:
        formulas.prepare(name, weights, {})
    assert error.value.path == path
    assert message in str(error.value)


def test_a_bound_lets_through_the_float32_next_to_it() -> None:
    for bound in (0.1, 2.0):
        DECLARED.prepare("", {"a": float(np.float32(bound))}, {})
    beyond = float(np.nextafter(np.float32(2.0), np.float32(3.0)))
    with pytest.raises(InvalidQuery):
        DECLARED.prepare("", {"a": beyond}, {})


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (("23",), "holds strings; formula 'recent' reads one number"),
        (np.array([1, 2], np.int64), "has 2 values; formula 'recent' reads one number"),
        (np.array([np.nan], np.float32), "must be a finite number"),
        (np.array([-np.inf], np.float32), "must be a finite number"),
    ],
)
def test_a_feature_that_is_not_one_number(feature: FeatureList, message: str) -> None:
    with pytest.raises(InvalidQuery) as error:
        DECLARED.prepare("", {}, {"hour": feature})
    assert error.value.path == 'features["hour"]'
    assert message in str(error.value)


def test_an_unknown_formula_is_named() -> None:
    with pytest.raises(
        UnknownName, match="surface movies has no value formula 'recnt'; did you mean 'recent'?"
    ):
        DECLARED.prepare("recnt", {}, {})
    with pytest.raises(UnknownName, match="no value formula 'weighted'"):
        DECLARED.prepare("weighted", {"a": 1.0}, {})


@pytest.mark.parametrize("formulas", [DECLARED, BUILT_IN])
def test_json_keeps_them(formulas: ValueFormulas) -> None:
    # Sorted, as a version's hash has them.
    text = json.dumps(formulas.to_json(), sort_keys=True)
    again = ValueFormulas.from_json(SCHEMA, json.loads(text))
    assert again == formulas
    assert json.dumps(again.to_json(), sort_keys=True) == text


def broken(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(json.dumps(DECLARED.to_json()))
    for key, value in changes.items():
        if key in raw:
            raw[key] = value
        else:
            raw["programs"]["recent"][key] = value
    return raw


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (broken(fields=["month"]), "formulas read fields"),
        (broken(fields=[]), "reads OPERAND 3 of 3"),
        (broken(default="other"), "formulas lack their default 'other'"),
        (broken(weights={}), "has weights without bounds"),
        (broken(constants=[1.0]), "reads CONSTANT 1 of 1"),
        (broken(steps=[]), "is not a whole program"),
        (broken(steps=[[1, 0], [1, 0]]), "is not a whole program"),
        (broken(steps=[[1, 0], [8, 0]]), "has a step ADD without its operands"),
        (broken(steps=[[1, 0], [0, 0]]), "has a step NOOP without its operands"),
        (broken(steps=[[99, 0]]), "99 is not a valid ValueOp"),
        (broken(features={"hour": 3}), "is not a whole program"),
    ],
)
def test_what_is_not_whole_is_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidData, ValueError), match=message):
        ValueFormulas.from_json(SCHEMA, raw)


def test_padding() -> None:
    steps, constants = padded([DECLARED.prepare("", {}, {}), DECLARED.prepare("plain", {}, {})])
    assert steps.shape == (2, len(DECLARED.programs["recent"].steps), 2)
    assert steps[1].tolist() == [[2, 0]] + [[0, 0]] * (steps.shape[1] - 1)
    assert constants.tolist() == [[1990.0, float(np.float32(0.7)), 0.0, 0.0], [0.0] * 4]
