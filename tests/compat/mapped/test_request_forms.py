"""Requests in the forms that public protocols need: tensors, several queries, strictness, packed columns."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.compile import load
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.text import format_filter
from tests.compat.mapped.conftest import HERE
from tests.compat.mapped.public.conftest import EXAMPLES

recs: Any = import_module("tests.compat.mapped.protos.acme_recs_pb2")


def adapter_of(protocol: str, method: str) -> tuple[Any, Any]:
    """(the adapter of a method, the class of its requests)."""
    (adapter,) = [
        each for each in load(EXAMPLES / f"{protocol}.toml").adapters if each.METHOD.endswith(f"/{method}")
    ]
    return adapter, GetMessageClass(adapter.descriptor.input_type)


def infer(*inputs: dict[str, Any], raw: tuple[bytes, ...] = ()) -> Any:
    adapter, kind = adapter_of("kserve_v2", "ModelInfer")
    message = kind(model_name="shop", inputs=inputs, raw_input_contents=raw)
    return adapter.decode(message.SerializeToString())


def test_tensors_hold_their_values_themselves_or_beside_them() -> None:
    query = infer(
        {"name": "history", "datatype": "INT64", "shape": [1, 2], "contents": {"int64_contents": [7, 8]}},
        {"name": "max_results", "datatype": "UINT32", "shape": [1], "contents": {"uint_contents": [4]}},
        {"name": "query_vector", "datatype": "FP64", "shape": [2], "contents": {"fp64_contents": [0.5, 1.5]}},
        {
            "name": "languages",
            "datatype": "BYTES",
            "shape": [1],
            "contents": {"bytes_contents": ["dé".encode()]},
        },
    )
    assert query.history.tolist() == [7, 8]
    assert query.max_results == 4
    assert query.features["query_vector"].dtype == np.float32
    assert query.features["query_vector"].tolist() == [0.5, 1.5]
    assert format_filter(query.filter) == 'language == "dé"'
    raw = infer(
        {"name": "query_vector", "datatype": "FP16", "shape": [2]},
        {"name": "year_from", "datatype": "UINT8", "shape": [1]},
        {"name": "history", "datatype": "INT64", "shape": [0]},
        raw=(np.array([0.5, 1.5], "<f2").tobytes(), b"\xff", b""),
    )
    assert raw.features["query_vector"].tolist() == [0.5, 1.5]
    assert format_filter(raw.filter) == "year >= 255"
    assert (len(raw.history), raw.max_results) == (0, 10)


ONE = {"name": "history", "datatype": "INT64", "shape": [1]}


@pytest.mark.parametrize(
    ("inputs", "raw", "told"),
    [
        ([ONE], [b"1234567"], 'inputs["history"]: must have 8 bytes for each int64, got 7 bytes'),
        ([ONE], [b"", b""], "raw_input_contents: has 2 entries, and inputs 1; send one for each tensor"),
        ([ONE], [], 'inputs["history"]: has the shape [1], and 0 values'),
        ([ONE, ONE], [b"12345678"] * 2, 'inputs["history"]: has come before; send each tensor once'),
        (
            [{**ONE, "datatype": "INT65"}],
            [b"12345678"],
            "inputs[\"history\"]: datatype 'INT65' is not served",
        ),
        ([{**ONE, "shape": [2, 2]}], [bytes(32)], "send the values of one query"),
        ([{**ONE, "shape": [-1]}], [bytes(8)], "has the shape [-1], and 1 values"),
        ([{**ONE, "datatype": "UINT64"}], [b"\xff" * 8], "must be below 2^63, got 18446744073709551615"),
        ([{**ONE, "datatype": "BYTES"}], [b"\5\0\0\0a"], "ends within a string"),
        ([{**ONE, "datatype": "BYTES"}], [b"\1\0\0\0\xff"], "string 0 is not UTF-8"),
        (
            [{"name": "max_results", "datatype": "INT32", "shape": [2]}],
            [bytes(8)],
            "must hold one value, holds 2",
        ),
        (
            [{**ONE, "contents": {"fp32_contents": [1.0]}}],
            [],
            "holds contents.fp32_contents, which do not fit",
        ),
        (
            [{**ONE, "parameters": {"shared": {"int64_param": 1}}}],
            [bytes(8)],
            "inputs[0].parameters: is not served",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_tensor_is_refused_by_name(inputs: Any, raw: Any, told: str) -> None:
    with pytest.raises(InvalidQuery) as error:
        infer(*inputs, raw=tuple(raw))
    assert told in str(error.value)


def test_a_request_of_several_queries_is_split_with_what_lies_around_them() -> None:
    adapter, kind = adapter_of("vertex", "BatchMatch")
    one = [{"num_neighbors": n, "embedding_id": str(n)} for n in (3, 4, 5)]
    message = kind(
        requests=[
            {"deployed_index_id": "a", "requests": one[:2]},
            {"deployed_index_id": "b", "requests": one[2:]},
        ]
    )
    split = adapter.split(message.SerializeToString(), {})
    assert [places for places, _ in split] == [(0, 0), (0, 1), (1, 0)]
    queries = [adapter.decode(part) for part in adapter.parts(message.SerializeToString(), {})]
    assert [(q.surface, q.max_results, q.history.tolist()) for q in queries] == [
        ("a", 3, [3]),
        ("a", 4, [4]),
        ("b", 5, [5]),
    ]


@pytest.mark.parametrize(
    ("requests", "told"),
    [
        ([], "requests: is empty; send at least one"),
        ([{"requests": [{}]}, {}], "requests[1].requests: is empty; send at least one"),
        ([{"requests": [{}] * 101}], "requests.requests: has 101 entries; send at most 100"),
    ],
)
def test_a_request_of_no_queries_or_too_many_is_refused(requests: Any, told: str) -> None:
    adapter, kind = adapter_of("vertex", "BatchMatch")
    with pytest.raises(InvalidQuery) as error:
        adapter.parts(kind(requests=requests).SerializeToString(), {})
    assert str(error.value) == told


def test_answers_to_several_queries_are_split_as_they_were_joined() -> None:
    adapter, _ = adapter_of("vertex", "BatchMatch")
    kind = GetMessageClass(adapter.descriptor.output_type)
    neighbors = [{"neighbor": [{"id": name}]} for name in "abc"]
    whole = kind(
        responses=[
            {"deployed_index_id": "x", "responses": neighbors[:2]},
            {"deployed_index_id": "y", "responses": neighbors[2:]},
        ]
    )
    parts = [kind.FromString(part) for part in adapter.answer_parts(whole.SerializeToString())]
    assert [part.responses[0].responses[0].neighbor[0].id for part in parts] == ["a", "b", "c"]
    assert [part.responses[0].deployed_index_id for part in parts] == ["x", "x", "y"]


def test_an_error_names_the_query_that_has_it() -> None:
    adapter, _ = adapter_of("vertex", "BatchMatch")
    named = adapter.several.request.named
    assert named("requests.requests.restricts[3]", (1, 2)) == "requests[1].requests[2].restricts[3]"
    assert named("requests.deployed_index_id", (1, 2)) == "requests[1].deployed_index_id"
    assert named("request", (1, 2)) == "request"


def test_fields_that_no_descriptor_knows_are_refused_where_the_mapping_is_strict() -> None:
    adapter, kind = adapter_of("vertex", "Match")
    message = kind(restricts=[{"name": "language", "allow_tokens": ["de"]}])
    assert adapter.decode(message.SerializeToString()).max_results == 10
    for content, told in (
        (message.SerializeToString() + b"\xfa\x06\x01x", "request: has a field 111"),
        (b"\x22\x05\x0a\x01a\x48\x01", "restricts[0]: has a field 9"),
    ):
        with pytest.raises(InvalidQuery) as error:
            adapter.decode(content)
        assert str(error.value).startswith(told)


def recommend(folder: Path, request: str, **fields: Any) -> Any:
    (folder / "m.toml").write_text(
        f'[protocol]\ndescriptors = "{HERE}/protos/acme.binpb"\n'
        f'[method."/acme.recs.v1.Recommender/Recommend".request]\nmax_results = "limit"\n{request}\n'
        '[method."/acme.recs.v1.Recommender/Recommend".answer]\n"model" = "version"\n'
    )
    (adapter,) = load(folder / "m.toml").adapters
    return adapter.decode(recs.RecommendRequest(**fields).SerializeToString())


def test_features_come_as_two_packed_columns(tmp_path: Path) -> None:
    request = 'features = { "*" = { names = "languages", values = "watched" } }'
    query = recommend(tmp_path, request, languages=["a", "b", "a"], watched=["1", "2", "3"])
    assert query.features == {"a": ("1", "3"), "b": ("2",)}
    with pytest.raises(InvalidQuery, match="languages: has 1 entries, and watched 0"):
        recommend(tmp_path, request, languages=["a"])


def test_numbers_are_read_from_bytes(tmp_path: Path) -> None:
    (tmp_path / "k.toml").write_text(
        f'[protocol]\ndescriptors = "{EXAMPLES}/kserve_v2.binpb"\n'
        '[method."/inference.GRPCInferenceService/ModelInfer".request]\nmax_results = { const = 3 }\n'
        'history = { path = "raw_input_contents[0]", as = "int64" }\n'
        'features = { v = { path = "raw_input_contents[1]", as = "float32" } }\n'
        '[method."/inference.GRPCInferenceService/ModelInfer".answer]\nmodel_version = "version"\n'
    )
    (adapter,) = load(tmp_path / "k.toml").adapters
    kind = GetMessageClass(adapter.descriptor.input_type)
    raw = [np.array([7, 8], "<i8").tobytes(), np.array([0.5], "<f4").tobytes()]
    query: Any = adapter.decode(kind(raw_input_contents=raw).SerializeToString())
    assert query.history.tolist() == [7, 8]
    assert query.features["v"].tolist() == [0.5]
    with pytest.raises(InvalidQuery, match=r"raw_input_contents\[0\]: must have 8 bytes for each int64"):
        adapter.decode(kind(raw_input_contents=[b"123"]).SerializeToString())


def test_numeric_restricts_compare_by_their_operators() -> None:
    adapter, kind = adapter_of("vertex", "Match")

    def filtered(**entry: Any) -> str:
        query = adapter.decode(kind(numeric_restricts=[{"name": "year", **entry}]).SerializeToString())
        return format_filter(query.filter)

    assert filtered(value_int=5, op="EQUAL") == "year == 5"
    assert filtered(value_double=5.5, op="EQUAL") == "year == 5.5"
    assert filtered(value_float=5.5, op="GREATER") == "year > 5.5"
    assert filtered(value_int=5, op="NOT_EQUAL") == "year != 5"
    for entry, told in (
        ({"value_int": 5}, "is compared by ''; known: !="),
        ({"op": "LESS"}, "< takes one value, got 0"),
        ({"value_double": float("nan"), "op": "LESS"}, "< takes a number, got nan"),
    ):
        with pytest.raises(InvalidQuery) as error:
            filtered(**entry)
        assert told in str(error.value)
