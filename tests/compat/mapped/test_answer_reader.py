"""Answers of a caller's protocol are read back as they were made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.adapter import MappedAdapter
from meshfold.compat.mapped.compile import load
from meshfold.compat.mapped.straight_lines import line_of
from meshfold.model.errors import InvalidData
from meshfold.model.types import Candidates, FieldValues
from tests.compat.mapped.conftest import HERE
from tests.compat.mapped.personal_protocol import clinic

__all__ = ["clinic"]


def candidates(count: int) -> Candidates:
    rng = np.random.default_rng(count)
    values = np.sort(rng.standard_normal(count).astype(np.float32))[::-1]
    one = np.ones(count, np.int64)
    return Candidates(
        tasks=("like",),
        version="v1",
        item_ids=rng.permutation(count).astype(np.int64),
        values=values,
        similarities=values,
        task_scores=values[:, None],
        fields={
            "title": FieldValues(one, tuple(f"title {place}" for place in range(count))),
            "language": FieldValues(one, ("de",) * count),
            "year": FieldValues(one, one),
        },
    )


def legacy(text: str, tmp_path: Path) -> MappedAdapter:
    """acme's old protocol with other lines in its answer."""
    mapping = (HERE / "acme_legacy.toml").read_text().replace("protos/", f"{HERE}/protos/")
    head, answer = mapping.split('[method."/acme.legacy.Feed/GetFeed".answer]')
    lines = '"request_id" = { echo = "header.request_id" }\n"status.code" = { const = 200 }\n'
    file = tmp_path / "acme.toml"
    file.write_text(f'{head}[method."/acme.legacy.Feed/GetFeed".answer]\n{lines}{text}\n')
    (adapter,) = load(file).adapters
    return adapter


def query_of(adapter: MappedAdapter) -> Any:
    request = GetMessageClass(adapter.descriptor.input_type)()
    if request.DESCRIPTOR.name == "FeedRequest":
        request.header.request_id = "r"
    request_bytes = request.SerializeToString()
    query: Any = adapter.decode(adapter.framed(request_bytes, {}))
    return replace(query, page=None)


@pytest.mark.parametrize("count", [0, 1, 30])
@pytest.mark.parametrize("name", ["recs", "legacy"])
def test_ids_scores_and_the_version_come_back(name: str, count: int) -> None:
    (adapter,) = load(HERE / f"acme_{name}.toml").adapters
    assert adapter.traffic is not None
    made = candidates(count)
    empty_is_a_status = name == "legacy" and not count
    message = b"" if empty_is_a_status else adapter.encode(query_of(adapter), made)
    (answer,) = adapter.traffic.answers(message, 5.0)
    assert answer.item_ids == tuple(np.asarray(made.item_ids).tolist())
    assert answer.scores == pytest.approx(made.values.tolist(), rel=1e-6)
    assert (answer.version, answer.latency_ms) == ("" if empty_is_a_status else "v1", 5.0)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('"videos.video_id" = "item_id"\n"videos.score.millis" = { from = "value", scale = 1000 }', 5e-4),
        (
            '"videos.video_id" = "item_id"\n"videos.score.millis" = { const = 1 }\n\'columns["v"].values\' = "value"',
            0,
        ),
        (
            '"videos.video_id" = "item_id"\n"videos.score.millis" = { const = 1 }\n'
            '"scores" = { from = "value", key = "item_id" }',
            1e-6,
        ),
        ('"scores" = { from = "value", key = "item_id" }', 1e-6),
        (
            '"videos.video_id" = "item_id"\n"videos.score.millis" = { const = 1 }\n'
            '"tensor" = { from = "value", as = "float32" }',
            1e-6,
        ),
    ],
    ids=["fixed point", "a column", "a map beside", "a map alone", "a tensor"],
)
def test_scores_come_back_from_every_form(text: str, error: float, tmp_path: Path) -> None:
    adapter = legacy(text, tmp_path)
    assert adapter.traffic is not None
    made = candidates(20)
    (answer,) = adapter.traffic.answers(adapter.encode(query_of(adapter), made), 0.0)
    assert answer.item_ids == tuple(np.asarray(made.item_ids).tolist())
    assert answer.scores == pytest.approx(made.values.tolist(), abs=error + 1e-7)


def test_zero_is_a_score_and_no_gap() -> None:
    (adapter,) = load(HERE / "acme_recs.toml").adapters
    kind = GetMessageClass(adapter.descriptor.output_type)
    assert adapter.traffic is not None
    message = kind(videos=[{"id": "vid_1", "score": 0.5}, {"id": "vid_2"}, {"id": "vid_3", "score": -1}])
    (answer,) = adapter.traffic.answers(message.SerializeToString(), 0.0)
    assert (answer.item_ids, answer.scores) == ((1, 2, 3), (0.5, 0.0, -1.0))


def test_fixed_point_has_its_offset(clinic: MappedAdapter) -> None:
    kind = GetMessageClass(clinic.descriptor.output_type)
    assert clinic.traffic is not None
    message = kind(trace="t", picks=[{"id": "item_9", "points": 57}]).SerializeToString()
    (answer,) = clinic.traffic.answers(message, 0.0)
    assert (answer.item_ids, answer.scores) == ((9,), (0.5,))


def test_what_cannot_be_read_is_told_without_its_values(clinic: MappedAdapter, tmp_path: Path) -> None:
    kind = GetMessageClass(clinic.descriptor.output_type)
    assert clinic.traffic is not None
    foreign = kind(trace="t", picks=[{"id": "SECRET", "points": 5}]).SerializeToString()
    for message in (foreign, b"\xff"):
        with pytest.raises(InvalidData) as error:
            clinic.traffic.answers(message, 0.0)
        assert "SECRET" not in str(error.value)
    without = legacy('"next_page_token" = "next_page_token"', tmp_path)
    assert without.traffic is not None
    assert not without.traffic.can_compare
    with pytest.raises(InvalidData, match="names no field for item_id"):
        without.traffic.answers(b"", 0.0)


def test_an_empty_answer_may_be_a_status() -> None:
    (adapter,) = load(HERE / "acme_legacy.toml").adapters
    assert adapter.traffic is not None
    (empty,) = adapter.traffic.failures(grpc.StatusCode.NOT_FOUND, 1.0, 1)
    assert (empty.status, empty.item_ids) == ("OK", ())
    (failed,) = adapter.traffic.failures(grpc.StatusCode.INTERNAL, 1.0, 1)
    assert failed.status == "INTERNAL"


@pytest.mark.parametrize(
    ("expression", "line"),
    [
        ("1 - value", (-1.0, 1.0)),
        ("value * 4 + 2", (4.0, 2.0)),
        ("value * value", None),
        ("value + rank", None),
        ("value + similarity", None),
        ("tasks.like", None),
        ("7", None),
    ],
)
def test_straight_lines_of_the_value_are_known(expression: str, line: tuple[float, float] | None) -> None:
    found = line_of(expression)
    assert found == (None if line is None else pytest.approx(line))
