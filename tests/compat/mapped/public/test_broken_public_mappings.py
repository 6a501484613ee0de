"""Mappings of public protocols that are wrong in one place are refused when they are loaded, with that place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.compat.mapped.changed_mappings import is_refused, mutations_are_refused
from tests.compat.mapped.public.conftest import EXAMPLES, NAMES

# The file, what is written, what stands there instead, and a part of the message.
CHANGES = [
    ("kserve_v2", "strict = true", "strict = 1", "must be true or false, got 1"),
    ("kserve_v2", "strict = true", "strickt = true", "did you mean 'strict'?"),
    ("kserve_v2", '{ tensor = "history" }', "{ tensor = 3 }", "must be a text, got 3"),
    ("kserve_v2", "default = 10 }", 'default = "10" }', "must be of kind integer, got '10'"),
    ("kserve_v2", '"max_results", default = 10', '"max_results", enum = "x"', "is not known here"),
    ("kserve_v2", 'entries = "inputs"', 'entries = "input"', "did you mean 'inputs'?"),
    ("kserve_v2", 'entries = "inputs"', 'entries = "model_name"', "must lead to repeated messages"),
    (
        "kserve_v2",
        'name = "name"\ndatatype = "datatype"\nshape = "shape"\nraw = "raw_input',
        'datatype = "datatype"\nshape = "shape"\nraw = "raw_input',
        "name is missing",
    ),
    ("kserve_v2", '"raw_input_contents"', '"raw_input_content"', "did you mean 'raw_input_contents'?"),
    ("kserve_v2", '"raw_input_contents"', '"outputs"', "must lead to a list of bytes, one for each tensor"),
    ("kserve_v2", '"contents.bool_contents"', '"contents.boolean_contents"', "did you mean 'bool_contents'?"),
    ("kserve_v2", 'asked = "outputs.name"', 'asked = "outputs"', "is of kind message"),
    (
        "kserve_v2",
        'asked = "outputs.name"',
        'asked = "model_name"',
        "is one string; expected a list of names",
    ),
    ("kserve_v2", 'asked = "outputs.name"', "asked = {}", "is empty; give only, but or all"),
    ("kserve_v2", '"raw_output_contents"', '"model_name"', "must be a list of bytes, one for each tensor"),
    ("kserve_v2", 'as = "int64"', 'as = "int65"', "did you mean 'int64'?"),
    ("kserve_v2", ', as = "int64"', "", "as is missing"),
    ("kserve_v2", 'from = "value", as = "float32"', 'from = "value", as = "strings"', "of kind number"),
    ("kserve_v2", 'from = "item_id", as', 'from = "item_ids", as', "did you mean 'item_id'?"),
    (
        "kserve_v2",
        'model_name = { echo = "model_name" }',
        'model_name = { echo = "modelname" }',
        "did you mean 'model_name'?",
    ),
    (
        "kserve_v2",
        'when = { name = "shop" }\nanswer = { ready',
        'when = { nam = "shop" }\nanswer = { ready',
        "did you mean 'name'?",
    ),
    (
        "kserve_v2",
        'when = { name = "shop" }\nanswer = { ready',
        "when = { name = 3 }\nanswer = { ready",
        "must be of kind string, got 3",
    ),
    (
        "kserve_v2",
        "answer = { ready = true }",
        "answer = { redy = true }",
        "is no inference.ModelReadyResponse",
    ),
    ("kserve_v2", "answer = { ready = true }", "", "answer is missing"),
    ("qdrant", '"with_vectors.enable" = false', '"with_vectors.enabled" = false', "did you mean 'enable'?"),
    (
        "qdrant",
        '"with_vectors.enable" = false',
        '"with_vectors.enable" = "no"',
        "must be of kind bool, got 'no'",
    ),
    ("qdrant", '"query.nearest.id.num",', '"query.nearest.id.number",', "has no field 'number'"),
    ("qdrant", '"score_threshold"', '"collection_name"', "is of kind string"),
    ("qdrant", "qdrant_filters:expression", "qdrant_filters:expresion", "AttributeError"),
    ("qdrant", "qdrant_filters:expression", "qdrant_filter:expression", "ModuleNotFoundError"),
    (
        "qdrant",
        'but = "with_payload.exclude.fields"',
        'butt = "with_payload.exclude.fields"',
        "did you mean 'but'?",
    ),
    ("qdrant", 'all = "with_payload.enable"', 'all = "limit"', "is of kind integer"),
    ("qdrant", '{ from = "item_id", only = "integers" }', '"item_id"', "are of one oneof; map one of them"),
    ("qdrant", 'only = "strings"', 'only = "string"', "did you mean 'strings'?"),
    ("qdrant", 'payload["title"].string_value', 'payload["title"].text_value', "has no field 'text_value'"),
    ("qdrant", 'payload["title"].string_value', 'payload["title"]', "is a message; name a field of it"),
    ("qdrant", 'payload["year"].integer_value', "payload", "is a map"),
    (
        "qdrant",
        'request = "query_points"',
        'request = "collection_name"',
        "holds no messages that could be queries",
    ),
    ("qdrant", 'request = "query_points"', 'request = "read_consistency"', "is not repeated"),
    ("qdrant", 'request = "query_points"', 'request = "query_points[0]"', "without brackets"),
    ("qdrant", 'answer = "result"', 'answer = "results"', "did you mean 'result'?"),
    ("qdrant", 'answer = "result"', 'answer = "result.result"', "both need as many"),
    ("qdrant", '"query_points.limit"', '"query_points[1].limit"', "leave the brackets out"),
    ("vertex", '"1 - value"', '"1 - valu"', "did you mean 'value'?"),
    ("vertex", '"1 - value"', '"1 -"', "line 1"),
    ("vertex", '"1 - value"', '"value > 1"', "expected a number, got a truth value"),
    ("vertex", '"1 - value"', '"fields.year"', "fields.year is not known here"),
    ("vertex", '"1 - value"', '"1 - has(value)"', "expected a number, got a truth value"),
    ("vertex", '{ cel = "1 - value" }', '{ cel = "1 - value", from = "value" }', "needs one of from, field"),
    ("vertex", 'none = "deny_tokens"', 'none = "deny_token"', "did you mean 'deny_tokens'?"),
    (
        "vertex",
        'none = "deny_tokens"',
        'operator = "name"\nnone = "deny_tokens"',
        "leave none and exclude out",
    ),
    ("vertex", '{ LESS = "<",', '{ LES = "<",', "did you mean 'LESS'?"),
    (
        "vertex",
        '"responses.deployed_index_id" = "surface"',
        '"responses.deployed_index_id" = "count"',
        "of kind integer",
    ),
    (
        "vertex",
        '"responses.deployed_index_id" = "surface"',
        '"responses.status.code" = "count"',
        "is of one query",
    ),
    ("vertex", 'answer = "responses.responses"', 'answer = "responses"', "both need as many"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the files that mappings name."""
    made = tmp_path_factory.mktemp("mappings")
    for file in EXAMPLES.iterdir():
        if file.suffix in (".binpb", ".py"):
            shutil.copy(file, made)
    return made


@pytest.mark.parametrize(
    ("name", "written", "instead", "told"), CHANGES, ids=[f"{c[0]}-{c[3]}" for c in CHANGES]
)
def test_a_broken_mapping_is_refused_where_it_is_broken(
    folder: Path, name: str, written: str, instead: str, told: str
) -> None:
    text = (EXAMPLES / f"{name}.toml").read_text()
    assert is_refused(folder, text, written, instead, told) <= 3


@pytest.mark.parametrize("name", NAMES)
def test_mutations_of_a_mapping_are_refused_by_place(folder: Path, name: str) -> None:
    mutations_are_refused(folder, (EXAMPLES / f"{name}.toml").read_text(), 70)
