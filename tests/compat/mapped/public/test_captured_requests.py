"""Public protocols, served by the mappings of examples/protocols: asked with the bytes that official clients sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.compat.mapped.public.conftest import NAMES, REQUESTS, Ask, captured

# Items 10, 11, ... have languages in turn, years 1900 + place, none for every tenth.
_LANGUAGES = ("de", "en", "es")


def language(item_id: int) -> str:
    return _LANGUAGES[(item_id - 10) % 3]


def year(item_id: int) -> int:
    return 1900 + item_id - 10


def tensor(answer: Any, name: str) -> Any:
    """As tritonclient reads it."""
    place = [output.name for output in answer.outputs].index(name)
    output, raw = answer.outputs[place], answer.raw_output_contents[place]
    if output.datatype == "BYTES":
        found = []
        while raw:
            end = 4 + int.from_bytes(raw[:4], "little")
            found.append(raw[4:end].decode())
            raw = raw[end:]
        assert list(output.shape) == [len(found)]
        return found
    kind = {"INT64": "<i8", "FP32": "<f4"}[output.datatype]
    return np.frombuffer(raw, kind).reshape(list(output.shape))


def test_kserve_infers_with_tensors(ask: Ask) -> None:
    answer = ask("kserve_v2", "infer")
    assert (answer.model_name, answer.id) == ("shop", "r1")
    assert answer.model_version
    ids, scores = tensor(answer, "item_id"), tensor(answer, "score")
    assert len(ids) == 5
    assert list(scores) == sorted(scores, reverse=True)
    assert tensor(answer, "task_scores").shape == (5, 2)
    assert tensor(answer, "title") == [f"shop 0.{item_id - 10}" for item_id in ids]
    assert {language(item_id) for item_id in ids} <= {"de", "en"}
    assert min(map(year, ids)) >= 1950


def test_kserve_gives_the_outputs_that_are_asked_for(ask: Ask) -> None:
    answer = ask("kserve_v2", "infer_vector")
    assert [output.name for output in answer.outputs] == ["item_id", "title"]
    assert len(answer.raw_output_contents) == 2
    assert len(tensor(answer, "item_id")) == 10


def test_kserve_tells_of_server_and_model(ask: Ask) -> None:
    assert ask("kserve_v2", "live").live
    assert ask("kserve_v2", "ready").ready
    assert ask("kserve_v2", "model_ready").ready
    assert ask("kserve_v2", "server_metadata").name == "meshfold"
    model = ask("kserve_v2", "model_metadata")
    assert [output.name for output in model.outputs] == ["item_id", "score", "task_scores", "title"]


def test_qdrant_finds_points_with_their_payload(ask: Ask) -> None:
    answer = ask("qdrant", "vector")
    assert len(answer.result) == 5
    for point in answer.result:
        item_id = point.id.num
        assert point.payload["title"].string_value == f"shop 0.{item_id - 10}"
        assert point.payload["language"].string_value == language(item_id)
        assert ("year" in point.payload) is ((item_id - 10) % 10 != 0)
    scores = [point.score for point in answer.result]
    assert scores == sorted(scores, reverse=True)


def test_qdrant_knows_points_that_a_query_is_near_to(ask: Ask) -> None:
    near = ask("qdrant", "near_a_point")
    assert len(near.result) == 4
    assert not any(point.payload for point in near.result)
    assert 12 not in [point.id.num for point in near.result]
    assert len(ask("qdrant", "recommend").result) == 4


def test_qdrant_filters_hold_filters(ask: Ask) -> None:
    answer = ask("qdrant", "nested_filter")
    found = [point.id.num for point in answer.result]
    expected = {
        item_id
        for item_id in range(10, 410)
        if (item_id - 10) % 10
        and 1950 <= year(item_id) < 2200
        and year(item_id) != 1951
        and item_id not in (60, 63)
        and (language(item_id) == "de" or (language(item_id) == "en" and year(item_id) > 2000.5))
    }
    assert len(found) == 100
    assert set(found) <= expected


def test_qdrant_pages_and_thresholds(ask: Ask) -> None:
    first, page = ask("qdrant", "vector"), ask("qdrant", "page")
    assert [p.id.num for p in page.result] == [p.id.num for p in first.result][3:]
    assert all(list(point.payload) == ["title"] for point in page.result)
    held = ask("qdrant", "threshold").result
    assert 0 < len(held) < 100
    assert min(point.score for point in held) >= 2.0


def test_qdrant_answers_several_queries_at_once(ask: Ask) -> None:
    several = ask("qdrant", "batch").result
    assert [len(batch.result) for batch in several] == [3, 2, 2]
    alone = ask("qdrant", "vector").result
    assert list(several[0].result) == list(alone)[:3]
    assert [p.id.num for p in several[2].result] == [p.id.num for p in alone][1:3]
    assert all(list(point.payload) in ([], ["year"]) for point in several[2].result)


def test_vertex_matches(ask: Ask) -> None:
    answer = ask("vertex", "match")
    distances = [neighbor.distance for neighbor in answer.neighbor]
    assert len(distances) == 5
    assert distances == sorted(distances)
    points = ask("qdrant", "vector").result
    assert [neighbor.id for neighbor in answer.neighbor] == [str(point.id.num) for point in points]
    assert distances == pytest.approx([1 - point.score for point in points])
    assert len(ask("vertex", "embedding_id").neighbor) == 10


def test_vertex_restricts_by_tokens_and_numbers(ask: Ask) -> None:
    found = [int(neighbor.id) for neighbor in ask("vertex", "restricts").neighbor]
    assert set(found) == {
        item_id
        for item_id in range(10, 410)
        if (item_id - 10) % 10
        and language(item_id) == "de"
        and 1950 <= year(item_id) < 2200.5
        and year(item_id) != 1960
    }


def test_vertex_groups_answers_as_the_requests_were(ask: Ask) -> None:
    answer = ask("vertex", "batch")
    assert [group.deployed_index_id for group in answer.responses] == ["shop", "shop"]
    counts = [[len(match.neighbor) for match in group.responses] for group in answer.responses]
    assert counts == [[3, 2], [2]]
    assert answer.responses[0].responses[1] == answer.responses[1].responses[0]
    assert list(answer.responses[0].responses[0].neighbor) == list(ask("vertex", "match").neighbor)[:3]


REFUSED = {
    ("kserve_v2", "infer_parameters"): "parameters: is not served; leave it out",
    ("kserve_v2", "infer_version"): "model_version: is not served; leave it out",
    ("kserve_v2", "infer_other_tensor"): "inputs[1]: the tensor 'weights' is not served",
    ("kserve_v2", "infer_other_output"): "outputs.name[0]: the answer has no 'embedding'",
    ("kserve_v2", "infer_other_type"): 'inputs["history"]: is FP32; expected INT32 or INT64',
    ("qdrant", "refused_prefetch"): "prefetch: is not served",
    ("qdrant", "refused_params"): "params: is not served",
    ("qdrant", "refused_vectors"): "with_vectors.enable: true is not served; served: false",
    ("qdrant", "refused_negative"): "query.recommend.negative: is not served",
    ("qdrant", "refused_geo"): "filter.must[0].field.geo_radius: is not served",
    (
        "qdrant",
        "refused_payload",
    ): "with_payload.include.fields[0]: the answer has no 'tile'; did you mean 'title'?",
    ("qdrant", "refused_using"): "using: is not served",
    ("qdrant", "refused_fusion"): "query.fusion: is not served",
    ("vertex", "refused_sparse"): "sparse_embedding: is not served",
    ("vertex", "refused_crowding"): "per_crowding_attribute_num_neighbors: is not served",
    ("vertex", "refused_embeddings"): "embedding_enabled: is not served",
    ("vertex", "refused_fraction"): "fraction_leaf_nodes_to_search_override: is not served",
}


@pytest.mark.parametrize(
    ("call", "told"), REFUSED.items(), ids=lambda value: value[1] if len(value) == 2 else ""
)
def test_what_is_not_served_is_refused_by_name(ask: Ask, call: tuple[str, str], told: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        ask(*call)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith(told)


def test_a_model_that_is_not_there_is_told(public: grpc.Channel, ask: Ask) -> None:
    with pytest.raises(grpc.RpcError) as error:
        ask("kserve_v2", "infer_other_model")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    method, _ = captured("kserve_v2", "model_ready")
    with pytest.raises(grpc.RpcError) as error:
        public.unary_unary(method)(b"\x0a\x05other", timeout=20)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert error.value.details() == "nothing is served for name 'other'; served: name 'shop'"


def test_every_captured_request_is_asked() -> None:
    here = " ".join(Path(__file__).read_text().split())
    calls = [f'"{name}", "{file.stem}"' for name in NAMES for file in (REQUESTS / name).iterdir()]
    assert [call for call in calls if call not in here] == []
