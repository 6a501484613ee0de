from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshfold.model.filter.text import parse_filter
from meshfold.model.schema import Field, FieldKind, Input, InputKind, Schema
from meshfold.model.types import QUERY_VECTOR, Query
from meshfold.service.notes import Notes
from meshfold.service.runner import Runner


@pytest.fixture(scope="module")
def runner(store: Path) -> Runner:
    (folder,) = (store / "shop").iterdir()
    return Runner.open(folder, "shop")


def notes(runner: Runner, **parts: Any) -> dict[str, str]:
    """What explain says of parts of a query for 5 results."""
    query = Query("shop", 5, explain=True, **parts)
    (answer,) = runner.run([runner.prepare(query)])
    return {path: text for path, text in answer.explain.items() if path[0] in "hf"}


HISTORY = np.array([10, 20])


def test_a_query_that_fits_has_none(runner: Runner) -> None:
    assert notes(runner, history=HISTORY, filter=parse_filter("year >= 1950")) == {}
    assert notes(runner, features={QUERY_VECTOR: np.ones(8, np.float32)}) == {}


def test_nothing_is_said_without_explain(runner: Runner) -> None:
    (answer,) = runner.run([runner.prepare(Query("shop", 5))])
    assert answer.explain == {}


def test_items_are_named_up_to_five(runner: Runner) -> None:
    told = notes(runner, history=np.array([10, *range(1000, 1009)]))["history"]
    assert told == "9 of 10 items are not in the catalog: 1000, 1001, 1002, 1003, 1004 and 4 more"


def test_an_empty_answer_counts_what_is_excluded(runner: Runner) -> None:
    ids = np.arange(10, 410)
    told = notes(runner, history=HISTORY, excluded_ids=ids, filter=parse_filter("has(year)"))
    assert told["filter"].endswith("; excluded items and those of the history do not count")


def test_declared_features_are_read_where_there_is_a_tower(runner: Runner) -> None:
    schema = Schema(
        "shop", (Field("x", FieldKind.INTEGER),), ("like",), inputs=(Input("hour", InputKind.INTS, 1),)
    )
    prepared = runner.prepare(Query("shop", 5, history=HISTORY, features={"hour": np.array([8])}))
    own: Any = runner._answers._notes
    formulas = runner._content.value
    assert Notes(schema, formulas, own._unmatched, True).of(prepared, True, 5) == {}
    told = Notes(schema, formulas, own._unmatched, False).of(prepared, True, 5)
    assert told.keys() == {'features["hour"]'}
