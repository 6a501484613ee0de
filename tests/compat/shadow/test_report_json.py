from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from meshfold.compat.shadow.comparison import (
    Cause,
    Comparison,
    Difference,
    Example,
    Interval,
    ItemText,
    SurfaceComparison,
)
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.compat.shadow.report.as_json import from_json, to_json
from meshfold.model.errors import InvalidData
from tests.compat.shadow.made_comparison import HOSTILE_TEXT, hostile, made


def written(comparison: Comparison) -> str:
    return json.dumps(to_json(comparison), allow_nan=False)


def changed(path: str, value: object) -> Any:
    """A made comparison's JSON with another value at a path such as surfaces.0.pairs."""
    document = json.loads(written(made(examples=1)))
    *before, last = path.split(".")
    inside: Any = document
    for step in before:
        inside = inside[int(step) if isinstance(inside, list) else step]
    inside[int(last) if isinstance(inside, list) else last] = value
    return document


@pytest.mark.parametrize(
    "comparison",
    [Comparison(()), made(("home", "trending"), examples=2), hostile(HOSTILE_TEXT)],
    ids=["empty", "two surfaces", "hostile"],
)
def test_what_is_written_is_read_again(comparison: Comparison) -> None:
    text = written(comparison)
    read = from_json(json.loads(text))
    # NaN equals nothing, so that texts are compared.
    assert written(read) == text


def test_every_type_comes_back() -> None:
    surface = made(examples=1).surfaces[0]
    pair = Pair(
        "r",
        mesh=SideAnswer(("a", "b"), (math.inf, -math.inf)),
        model=SideAnswer((), status="INTERNAL"),
        request=b"\x00\xff",
        filter="",
        is_redacted=True,
        slices={"a": "b"},
    )
    example = Example(
        pair,
        {"overlap@10": math.nan},
        (Difference("a", "model", 1, Cause.TIE), Difference(2**62, "mesh", 2, Cause.CAP)),
        {"a": ItemText("A"), 7: ItemText("seven", {"year": "1990"})},
    )
    surface = replace(surface, examples=(example,), drift=None)
    read = from_json(json.loads(written(Comparison((surface,))))).surfaces[0]
    assert isinstance(read, SurfaceComparison)
    assert read.drift is None
    (back,) = read.examples
    assert back.pair.mesh == pair.mesh
    assert back.pair.model is not None
    assert math.isnan(back.pair.model.latency_ms)
    assert back.pair.request == pair.request
    assert back.pair.filter == ""
    assert back.pair.again is None
    assert math.isnan(back.measures["overlap@10"])
    assert back.differences == example.differences
    assert isinstance(back.differences[0].cause, Cause)
    assert back.items == example.items
    assert read.causes == surface.causes
    assert read.slices == surface.slices
    assert read.curve == surface.curve


def test_json_has_no_number_that_others_cannot_read() -> None:
    surface = made().surfaces[0]
    latency = replace(surface.latencies[0], p50=math.nan, p90=math.inf, p99=-math.inf)
    document = to_json(Comparison((replace(surface, latencies=(latency,)),)))
    assert document["comparison"]["surfaces"][0]["latencies"] == [
        {"side": "mesh", "answers": 5003, "p50": None, "p90": "Infinity", "p99": "-Infinity"}
    ]
    assert from_json(document).surfaces[0].latencies[0].p99 == -math.inf


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("format", "something", 'expected an object with "format": "meshfold.shadow.comparison"'),
        ("version", 2, "version 2 of meshfold.shadow.comparison cannot be read, this program reads 1"),
        ("version", True, "version True"),
        ("more", 1, "unknown field 'more'"),
        ("comparison", None, "comparison: expected an object, got None"),
        ("comparison.surfaces", {}, r"comparison.surfaces: expected a list, got {}"),
        ("comparison.surfaces.0.pairs", 1.0, r"comparison.surfaces\[0\].pairs: expected an integer, got 1.0"),
        ("comparison.surfaces.0.pairs", True, "expected an integer, got True"),
        ("comparison.surfaces.0.pears", 1, r"comparison.surfaces\[0\]: unknown field 'pears'"),
        ("comparison.surfaces.0.surface", 5, "expected a string, got 5"),
        ("comparison.surfaces.0.curve.1", [1, 2.0], r"curve\[1\]: expected a list of 3, got 2"),
        ("comparison.surfaces.0.histogram.0.3", "x", r"histogram\[0\]\[3\]: expected an integer, got 'x'"),
        ("comparison.surfaces.0.figures.0.noise.low", "x", "noise.low: expected a number, null, "),
        ("comparison.surfaces.0.figures.0.noise.low", 10**400, "noise.low: expected a number, null, "),
        ("comparison.surfaces.0.causes.0", ["model"], r"causes: expected a list of \[key, value\]"),
        ("comparison.surfaces.0.causes.0", [["mesh", "tie"], 3], "stands twice"),
        ("comparison.surfaces.0.examples.0.pair.request", "§", "request: expected base64, got"),
        (
            "comparison.surfaces.0.examples.0.differences.0.cause",
            "luck",
            "cause: expected one of mesh_ann_miss",
        ),
        ("comparison.surfaces.0.examples.0.differences.0.cause", [], "cause: expected one of mesh_ann_miss"),
        (
            "comparison.surfaces.0.examples.0.pair.is_redacted",
            1,
            "is_redacted: expected true or false, got 1",
        ),
        ("comparison.counted", 3, "expected an object or a list of"),
        ("comparison.notes", ["a" * 500, 5], r"notes\[1\]: expected a string, got 5"),
    ],
)
def test_another_document_is_told_where_it_differs(path: str, value: object, expected: str) -> None:
    with pytest.raises(InvalidData, match=expected) as caught:
        from_json(changed(path, value))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_missing_field_is_named() -> None:
    document = to_json(made(examples=0))
    del document["comparison"]["surfaces"][0]["users"]
    with pytest.raises(InvalidData, match=r"comparison.surfaces\[0\]: the field users is missing"):
        from_json(document)


@pytest.mark.parametrize("document", [None, [], "x", 5, {}])
def test_what_is_no_comparison_is_refused(document: object) -> None:
    with pytest.raises(InvalidData, match="expected an object with"):
        from_json(document)


def test_an_interval_without_bounds_comes_back() -> None:
    surface = made(examples=0).surfaces[0]
    figure = replace(surface.figures[0], excess=Interval(-0.1, math.nan, math.nan), noise=None)
    read = from_json(to_json(Comparison((replace(surface, figures=(figure,)),)))).surfaces[0].figures[0]
    assert read.noise is None
    assert read.excess is not None
    assert math.isnan(read.excess.low)
