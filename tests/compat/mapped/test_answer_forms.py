"""Answers in the forms that public protocols need: named entries, tensors, expressions, conventions for no results."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.compile import load
from meshfold.model.errors import UnknownName, Unprepared
from meshfold.model.types import Candidates, FieldValues
from tests.compat.mapped.conftest import HERE
from tests.compat.mapped.public.conftest import EXAMPLES

recs: Any = import_module("tests.compat.mapped.protos.acme_recs_pb2")
RECS = (
    f'[protocol]\ndescriptors = "{HERE}/protos/acme.binpb"\n[method."/acme.recs.v1.Recommender/Recommend"]\n'
)
REQUEST = '[method."/acme.recs.v1.Recommender/Recommend".request]\nmax_results = { const = 3 }\n'
ANSWER = '[method."/acme.recs.v1.Recommender/Recommend".answer]\n'
INFER = "/inference.GRPCInferenceService/ModelInfer"
VALUES = np.array([0.75, 0.5, 0.25], np.float32)
CANDIDATES = Candidates(
    ("like", "watch"),
    "v1",
    np.array([7, 8, 9]),
    VALUES,
    VALUES * 2,
    np.stack([VALUES, -VALUES], 1),
    {"title": FieldValues(np.array([1, 0, 1]), ("seven", "nine"))},
)
NONE = Candidates(
    ("like",), "v1", np.empty(0, np.int64), VALUES[:0], VALUES[:0], np.empty((0, 1), np.float32)
)


def answered(
    folder: Path, answer: str, candidates: Candidates = CANDIDATES, method: str = "", request: str = ""
) -> Any:
    text = f"{RECS}{method}\n{REQUEST}{request}\n{ANSWER}{answer}\n"
    (folder / "m.toml").write_text(text)
    (adapter,) = load(folder / "m.toml").adapters
    query = adapter.decode(recs.RecommendRequest(year_from=5).SerializeToString())
    return recs.RecommendResponse.FromString(adapter.encode(query, candidates))


@pytest.mark.parametrize(
    ("cel", "expected"),
    [
        ("1 - value", [0.25, 0.5, 0.75]),
        ("similarity / 0", [0, 0, 0]),
        ("rank > 1 && value > 0.3 ? 10 : tasks.watch", [-0.75, 10, -0.25]),
        ("max(tasks.like, 0.4) * 2", [1.5, 1.0, 0.8]),
    ],
)
def test_scores_are_transformed_by_expressions(tmp_path: Path, cel: str, expected: list[float]) -> None:
    answer = answered(tmp_path, f'"videos.score" = {{ cel = "{cel}" }}')
    assert [video.score for video in answer.videos] == pytest.approx(expected)
    assert not answered(tmp_path, f'"videos.score" = {{ cel = "{cel}" }}', NONE).videos


def test_a_task_of_an_expression_that_the_surface_lacks_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unprepared, match="did you mean 'like'"):
        answered(tmp_path, '"videos.score" = { cel = "tasks.likes" }')


def test_results_of_too_little_value_are_left_out(tmp_path: Path) -> None:
    least = "min_value = { const = 0.4 }"
    answer = answered(tmp_path, '"videos.score" = "value"', request=least)
    assert [video.score for video in answer.videos] == [0.75, 0.5]
    with pytest.raises(UnknownName):
        answered(
            tmp_path,
            '"videos.score" = "value"',
            method='empty = "NOT_FOUND"',
            request=least.replace("0.4", "4.0"),
        )


def test_a_constant_may_tell_that_there_are_no_results(tmp_path: Path) -> None:
    text = '"model" = { const = "FOUND", empty = "NOTHING" }'
    assert answered(tmp_path, text).model == "FOUND"
    assert answered(tmp_path, text, NONE).model == "NOTHING"


def infer(
    folder: Path, answer: str, candidates: Candidates = CANDIDATES, outputs: tuple[str, ...] = ()
) -> Any:
    (folder / "k.toml").write_text(
        f'[protocol]\ndescriptors = "{EXAMPLES}/kserve_v2.binpb"\n'
        f'[method."{INFER}".request]\nmax_results = {{ const = 3 }}\nasked = "outputs.name"\n'
        f'[method."{INFER}".answer]\n{answer}\n'
    )
    (adapter,) = load(folder / "k.toml").adapters
    kinds = [
        GetMessageClass(each) for each in (adapter.descriptor.input_type, adapter.descriptor.output_type)
    ]
    query = adapter.decode(kinds[0](outputs=[{"name": name} for name in outputs]).SerializeToString())
    return kinds[1].FromString(adapter.encode(query, candidates))


ENTRIES = """
'outputs[name="id"].contents.int64_contents' = "item_id"
'outputs[name="id"].datatype' = { const = "INT64" }
'outputs[name="score"].contents.fp32_contents' = { from = "value", scale = 2 }
'outputs[name="title"].contents.bytes_contents' = { const = "x" }
'parameters["version"].string_param' = "version"
"""


def test_entries_of_an_answer_are_written_by_name(tmp_path: Path) -> None:
    answer = infer(tmp_path, ENTRIES)
    assert [output.name for output in answer.outputs] == ["id", "score", "title"]
    assert list(answer.outputs[0].contents.int64_contents) == [7, 8, 9]
    assert [output.datatype for output in answer.outputs] == ["INT64", "", ""]
    assert list(answer.outputs[1].contents.fp32_contents) == [1.5, 1.0, 0.5]
    assert list(answer.outputs[2].contents.bytes_contents) == [b"x"] * 3
    assert answer.parameters["version"].string_param == "v1"
    chosen = infer(tmp_path, ENTRIES, outputs=("score",))
    assert [output.name for output in chosen.outputs] == ["score"]
    assert list(chosen.outputs[0].contents.fp32_contents) == [1.5, 1.0, 0.5]
    assert not chosen.parameters
    assert [output.name for output in infer(tmp_path, ENTRIES, NONE).outputs] == ["id", "score", "title"]


TENSORS = """
outputs = { name = "name", datatype = "datatype", shape = "shape", raw = "raw_output_contents", tensors = {
    id = { from = "item_id", as = "int32" }, scores = { from = "scores", as = "float16" },
    version = { from = "version", as = "strings" }, title = { field = "title", default = "-", as = "strings" } },
    words = { int32 = "I4", float16 = "F2", strings = "TEXT" } }
""".replace("\n    ", " ")


def test_tensors_are_written_with_their_shapes_in_the_protocols_words(tmp_path: Path) -> None:
    answer = infer(tmp_path, TENSORS)
    told = {output.name: (output.datatype, list(output.shape)) for output in answer.outputs}
    assert told == {
        "id": ("I4", [3]),
        "scores": ("F2", [3, 2]),
        "version": ("TEXT", [1]),
        "title": ("TEXT", [3]),
    }
    ids, scores, version, titles = answer.raw_output_contents
    assert np.frombuffer(ids, "<i4").tolist() == [7, 8, 9]
    assert np.frombuffer(scores, "<f2").reshape(3, 2).tolist() == CANDIDATES.task_scores.tolist()
    assert version == b"\2\0\0\0v1"
    assert titles == b"\5\0\0\0seven\1\0\0\0-\4\0\0\0nine"
    with pytest.raises(Unprepared, match="tensor id is of int32, and its values must lie from"):
        infer(tmp_path, TENSORS, replace(CANDIDATES, item_ids=np.array([1, 2, 2**40])))


def test_payloads_are_maps_of_each_result(tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text(
        f'[protocol]\ndescriptors = "{EXAMPLES}/qdrant.binpb"\n'
        '[method."/qdrant.Points/Query".request]\nmax_results = "limit"\n'
        '[method."/qdrant.Points/Query".answer]\n"result.id.num" = { from = "item_id", only = "integers" }\n'
        '"result.id.uuid" = { from = "item_id", only = "strings" }\n'
        """'result.payload["title"].list_value.values.string_value' = { field = "title" }\n"""
        """'result.payload["score"].double_value' = "value"\n"""
    )
    (adapter,) = load(tmp_path / "q.toml").adapters
    held = {"title": FieldValues(np.array([2, 0, 1]), ("a", "b", "c"))}
    for ids in (np.array([7, 8, 9]), ("x", "y", "z")):
        content = adapter.encode(adapter.decode(b"\x40\x03"), replace(CANDIDATES, item_ids=ids, fields=held))
        answer = GetMessageClass(adapter.descriptor.output_type).FromString(content)
        assert [point.id.num or point.id.uuid for point in answer.result] == list(ids)
        titles = [
            [value.string_value for value in point.payload["title"].list_value.values]
            for point in answer.result
            if "title" in point.payload
        ]
        assert titles == [["a", "b"], ["c"]]
        assert [point.payload["score"].double_value for point in answer.result] == VALUES.tolist()
    with pytest.raises(
        Unprepared, match="holds 0 to 18446744073709551615, and ids of this surface lie outside"
    ):
        adapter.encode(adapter.decode(b"\x40\x03"), replace(CANDIDATES, item_ids=np.array([-1, 2, 3])))
