"""Requests become queries by every form that a mapping knows."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshfold.compat.mapped.compile import load
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import Exists
from meshfold.model.filter.text import format_filter
from meshfold.model.types import MaxPerValue
from tests.compat.mapped.conftest import HERE

pb: Any = import_module("tests.compat.mapped.protos.acme_legacy_pb2")
ANSWER = """
[method."/acme.legacy.Feed/GetFeed".answer]
"request_id" = "request_id"
"status.code" = { const = 200 }
'columns["value"].values' = "value"
"""
OWN = """
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import Exists

def expression(message):
    if message.request_id == "bad":
        raise InvalidQuery("request_id", "is bad")
    return Exists(message.request_id)
"""


def decode(folder: Path, request: str, **fields: Any) -> Any:
    (folder / "own_converter_of_a_test.py").write_text(OWN)
    (folder / "m.toml").write_text(
        f'[protocol]\ndescriptors = "{HERE}/protos/acme.binpb"\n'
        f'[method."/acme.legacy.Feed/GetFeed".request]\nmax_results = "page_size"\n{request}\n{ANSWER}'
    )
    (adapter,) = load(folder / "m.toml").adapters
    message = pb.FeedRequest(**{"header": {"request_id": "r"}, **fields})
    return adapter.decode(message.SerializeToString())


INPUTS = [
    {"name": "user", "text": "u7"},
    {"name": "seen", "numbers": [1, 2]},
    {"name": "seen", "numbers": [3]},
    {"name": "language", "text": "de"},
    {"name": "where", "text": 'language == "en" || year > 5'},
]


def test_entries_are_found_by_name_and_by_place(tmp_path: Path) -> None:
    request = """
user_id = 'inputs[name="user"].text'
history = 'inputs[name="seen"].numbers'
excluded = "inputs[2].numbers"
formula = { const = "cheap" }
max_per_value = { field = { const = "language" }, limit = "header.page.x" }
"""
    query = decode(tmp_path, request.replace("header.page.x", "inputs[1].numbers[0]"), inputs=INPUTS)
    assert query.user_id == "u7"
    assert query.history.tolist() == [1, 2, 3]
    assert query.excluded_ids.tolist() == [3]
    assert query.value_formula == "cheap"
    assert query.max_per_value == MaxPerValue("language", 1)
    empty = decode(tmp_path, request.replace("header.page.x", "inputs[1].numbers[0]"))
    assert (empty.user_id, len(empty.history), empty.max_per_value) == (0, 0, None)


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ("{ cel = 'inputs[name=\"where\"].text' }", 'language == "en" || year > 5'),
        ("{ const = 'year >= 1990' }", "year >= 1990"),
        ("{ field = 'language', none = 'inputs[name=\"language\"].text' }", 'language != "de"'),
        ("{ field = 'year', max = 'inputs[1].numbers[1]', inclusive = false }", "year < 2"),
        (
            "{ entries = 'inputs', name = 'name', values = ['text', 'numbers'], "
            "fields = { user = 'a', seen = 'b', language = 'c', where = 'd' } }",
            'a == "u7" && b in [1, 2] && b == 3 && c == "de" && d == "language == \\"en\\" || year > 5"',
        ),
    ],
)
def test_filters_come_in_many_forms(tmp_path: Path, filter_: str, expected: str) -> None:
    query = decode(tmp_path, f"filter = {filter_}", inputs=INPUTS)
    assert format_filter(query.filter) == expected


def test_a_converter_makes_the_filter(tmp_path: Path) -> None:
    request = "filter = { converter = 'own_converter_of_a_test:expression', path = 'header' }"
    assert decode(tmp_path, request, header={"request_id": "year"}).filter == Exists("year")
    with pytest.raises(InvalidQuery, match="header: is bad"):
        decode(tmp_path, request, header={"request_id": "bad"})


def test_features_are_of_the_kinds_that_are_sent(tmp_path: Path) -> None:
    request = """
[method."/acme.legacy.Feed/GetFeed".request.features]
"*" = { path = "inputs", name = "name", values = ["text", "numbers", "reals"] }
market = "viewer.market"
"""
    inputs = [INPUTS[0], INPUTS[1], {"name": "weights", "reals": [0.5, 0.25]}]
    query = decode(tmp_path, request, inputs=inputs, viewer={"id": "u", "market": 2})
    assert query.features["user"] == ("u7",)
    assert query.features["market"] == ("MARKET_ENGLISH",)
    assert query.features["seen"].dtype == np.int64
    assert query.features["weights"].dtype == np.float32
    with pytest.raises(InvalidQuery, match="'seen' has come before; send each feature once"):
        decode(tmp_path, request, inputs=INPUTS)


def test_strings_of_proto2_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    decode(tmp_path, 'user_id = "viewer.id"')
    (adapter,) = load(tmp_path / "m.toml").adapters
    header = b"\x0a\x03\x0a\x01r"
    with pytest.raises(InvalidQuery, match=r"viewer\.id: holds a string that is not UTF-8"):
        adapter.decode(header + b"\x12\x03\x0a\x01\xff")
