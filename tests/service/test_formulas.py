"""Value formulas, from the schema file of `meshfold build` to what callers of a running server get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshfold.compat.client import Client
from meshfold.model.errors import InvalidQuery, UnknownName
from meshfold.model.types import Candidates, Float64s, Query
from meshfold.service.server import Server

Build = Callable[..., Path]
Start = Callable[..., Server]
USER = {"clock": np.array([0.3, -0.2], np.float32), "country": ("de",)}


@pytest.fixture(scope="module")
def store(build_shop: Build) -> Path:
    """Formulas, a user tower and an OverArch."""
    return build_shop(user_tower="User", over_arch="Rank").parent.parent


@pytest.fixture
def client(store: Path, start: Start) -> Iterator[Client]:
    with Client(start(store).address) as client:
        yield client


def asked(formula: str = "", k: int = 1500, features: Any = None, **query: Any) -> Query:
    given = {**USER, **(features or {})}
    return Query("shop", k, features=given, value_formula=formula, fields=("year", "price"), **query)


def field(answer: Candidates, name: str, missing: float) -> Float64s:
    """One number a result."""
    held = answer.fields[name]
    numbers = np.full(len(held.lengths), missing)
    numbers[held.lengths > 0] = np.array(held.values, np.float64)
    return numbers


def check(answer: Candidates, expected: Float64s) -> None:
    """Results have these values, and stand in their order, ties by the smaller id."""
    assert answer.values.tolist() == expected.astype(np.float32).tolist()
    order = sorted(range(len(expected)), key=lambda i: (-answer.values[i], answer.item_ids[i]))
    assert order == list(range(len(expected)))


def test_the_default_is_the_one_that_the_schema_names(client: Client) -> None:
    answer = client.retrieve(asked())
    scores = answer.task_scores.astype(np.float64)
    check(answer, 0.5 * scores[:, 0] + scores[:, 1])
    assert len(answer.item_ids) == 1500
    assert client.retrieve(asked("mixed")).values.tobytes() == answer.values.tobytes()


@pytest.mark.parametrize("like", [0.0, 0.1, 2.0])
def test_a_request_overrides_a_weight_within_its_bounds(client: Client, like: float) -> None:
    answer = client.retrieve(asked(task_weights={"like": like}))
    scores = answer.task_scores.astype(np.float64)
    check(answer, float(np.float32(like)) * scores[:, 0] + scores[:, 1])


def test_formulas_read_fields(client: Client) -> None:
    answer = client.retrieve(asked("cheap"))
    check(answer, -field(answer, "price", missing=0.0))
    assert len(set(answer.values.tolist())) > 1000


@pytest.mark.parametrize(("age", "hour"), [(0.0, None), (0.5, None), (0.5, 7.0), (-1.0, 200.0)])
def test_formulas_read_the_request(client: Client, age: float, hour: float | None) -> None:
    features = {} if hour is None else {"hour": np.array([hour], np.float32)}
    answer = client.retrieve(asked("recent", features=features, task_weights={"age": age}))
    check(answer, field(answer, "year", missing=1900.0) + age * (hour or 0.0))


def test_a_whole_number_is_a_number(client: Client) -> None:
    answer = client.retrieve(
        asked("recent", features={"hour": np.array([7])}, task_weights={"age": 1.0}, k=5)
    )
    check(answer, field(answer, "year", missing=1900.0) + 7.0)


def test_division_by_zero_is_zero(client: Client) -> None:
    answer = client.retrieve(asked("division"))
    check(answer, np.zeros(1500))
    assert list(answer.item_ids) == sorted(list(answer.item_ids))


def test_similarity_is_always_there(client: Client) -> None:
    answer = client.retrieve(asked("similarity"))
    check(answer, answer.similarities.astype(np.float64))


Arguments = dict[str, Any]


@pytest.mark.parametrize(
    ("formula", "arguments", "path", "message"),
    [
        (
            "",
            {"task_weights": {"like": 2.001}},
            'task_weights["like"]',
            "must lie between 0 and 2, got 2.001",
        ),
        ("", {"task_weights": {"like": -0.001}}, 'task_weights["like"]', "must lie between 0 and 2"),
        ("", {"task_weights": {"watch": 1.0}}, 'task_weights["watch"]', "has no such weight; "),
        (
            "mixed",
            {"task_weights": {"age": 0.5}},
            'task_weights["age"]',
            "formula 'mixed' has no such weight",
        ),
        (
            "cheap",
            {"task_weights": {"like": 1.0}},
            "task_weights",
            "'cheap' takes no weights; 'mixed', 'recent'",
        ),
        (
            "recent",
            {"features": {"hour": ("noon",)}},
            'features["hour"]',
            "holds strings; .* reads one number",
        ),
        ("recent", {"features": {"hour": np.ones(2, np.float32)}}, 'features["hour"]', "has 2 values"),
        ("recent", {"features": {"hour": np.full(1, np.inf, np.float32)}}, 'features["hour"][0]', "finite"),
    ],
)
def test_what_does_not_fit_is_an_invalid_argument_with_its_path(
    client: Client, formula: str, arguments: Arguments, path: str, message: str
) -> None:
    with pytest.raises(InvalidQuery, match=message) as caught:
        client.retrieve(asked(formula, 5, **arguments))
    assert caught.value.path == path
    assert len(client.retrieve(asked(k=5)).item_ids) == 5


@pytest.mark.parametrize("name", ["chaep", "weighted", "Mixed", "x" * 200])
def test_a_formula_that_is_not_there_is_not_found(client: Client, name: str) -> None:
    with pytest.raises(UnknownName, match=f"surface shop has no value formula '{name}'"):
        client.retrieve(asked(name, 5))


def test_features_of_a_formula_do_not_make_a_user_known(client: Client) -> None:
    hour = {"hour": np.array([7], np.float32)}
    popular = Query("shop", 4, features=hour, value_formula="similarity", explain=True)
    answer = client.retrieve(popular)
    assert answer.explain["user"].startswith("nothing known")
    assert list(answer.item_ids) == [5, 8, 11, 14]


def test_a_formula_changes_nothing_of_what_explain_says(client: Client) -> None:
    told = [client.retrieve(asked(f, 20, explain=True)).explain for f in ("", "cheap", "similarity")]
    assert told[0] == told[1] == told[2]
    assert told[0]["user"] == "known"
    assert told[0]["eligible"] == "1500"


def weights(*values: float) -> dict[str, float]:
    return dict(zip(("like", "watch"), values, strict=False))


def test_without_formulas_an_over_arch_weighs_tasks(build_shop: Build, start: Start, tmp_path: Path) -> None:
    build_shop(formulas=False, store=tmp_path, user_tower="User", over_arch="Rank")
    with Client(start(tmp_path).address) as client:
        for given in ((), (1.0, 0.0), (-0.5, 2.0), (3.0,), (1e30, -1e30)):
            answer = client.retrieve(asked(task_weights=weights(*given)))
            like, watch = (float(np.float32(w)) for w in {**weights(1.0, 1.0), **weights(*given)}.values())
            scores = answer.task_scores.astype(np.float64)
            check(answer, like * scores[:, 0] + watch * scores[:, 1])
            named = client.retrieve(asked("weighted", task_weights=weights(*given)))
            assert named.values.tobytes() == answer.values.tobytes()
        similar = client.retrieve(asked("similarity"))
        check(similar, similar.similarities.astype(np.float64))


def test_without_formulas_and_over_arch_similarity_orders_and_weights_weigh(
    build_shop: Build, start: Start, tmp_path: Path
) -> None:
    build_shop(formulas=False, store=tmp_path, user_tower="User")
    with Client(start(tmp_path).address) as client:
        plain = client.retrieve(asked())
        weighted = client.retrieve(asked(task_weights=weights(0.25, -2.0)))
        with pytest.raises(InvalidQuery, match="'weighted' needs the weight of at least one task"):
            client.retrieve(asked("weighted"))
        with pytest.raises(UnknownName, match="'mixed'"):
            client.retrieve(asked("mixed"))
    check(plain, plain.task_scores.max(1).astype(np.float64))
    scores = weighted.task_scores.astype(np.float64)
    check(weighted, 0.25 * scores[:, 0] - 2.0 * scores[:, 1])
