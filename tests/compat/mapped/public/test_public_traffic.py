"""Calls of public protocols as recordings and comparisons read them: asked again in mesh.v1, and answers read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.compat.key import KeyedHash
from meshfold.compat.mapped.compile import Mapping, load
from meshfold.compat.mapped.tensor_bytes import written
from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.recording.rules import Rules, UserIds
from meshfold.compat.shadow.answers import answer_of
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from tests.compat.mapped.public.conftest import EXAMPLES, NAMES, REQUESTS, captured

CALLS = [
    (name, file.stem)
    for name in NAMES
    for file in sorted((REQUESTS / name).glob("*.bin"))
    # Of a surface that is not served.
    if file.stem != "infer_other_model"
]


def asked_by(questions: Any) -> list[Any]:
    """What is asked, whatever the request is called."""
    requests = [pb.RetrieveRequest.FromString(question.message) for question in questions]
    for request in requests:
        request.ClearField("request_id")
    return requests


@pytest.mark.parametrize(("protocol", "call"), CALLS)
def test_a_call_is_asked_again_in_mesh_v1_and_answered_alike(
    protocol: str, call: str, public: grpc.Channel, mappings: dict[str, Mapping]
) -> None:
    method, message = captured(protocol, call)
    adapters = {adapter.METHOD: adapter for adapter in mappings[protocol].adapters}
    if method not in adapters:
        pytest.skip("a fixed answer")
    traffic: Any = adapters[method].traffic
    questions = traffic.questions(message, {})
    assert len(questions) > 1 or "Batch" not in method
    ask = public.unary_unary(method)
    if not all(question.message for question in questions):
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            ask(message, timeout=20)
        return
    answers = traffic.answers(ask(message, timeout=20), 1.0)
    assert len(answers) == len(questions)
    for question, answer in zip(questions, answers, strict=True):
        again = answer_of(public.unary_unary(METHOD)(question.message, timeout=20))
        assert answer.item_ids
        if question.is_whole:
            assert answer.item_ids == again.item_ids
            # The outputs that a caller asks for may be ids alone.
            assert not answer.scores or answer.scores == pytest.approx(again.scores, abs=1e-6)
    # What a recording keeps asks the same.
    kept = traffic.redaction(Rules(UserIds.HASH, (), KeyedHash())).redacted(message, {})
    if kept.content and not kept.is_redacted:
        assert asked_by(traffic.questions(kept.content, {})) == asked_by(questions)
    whole = traffic.redaction(Rules(UserIds.KEEP)).redacted(message, {})
    assert whole.content == message


def test_tensors_are_kept_by_the_parts_that_they_are(mappings: dict[str, Mapping]) -> None:
    method, message = captured("kserve_v2", "infer")
    (adapter,) = mappings["kserve_v2"].adapters
    traffic: Any = adapter.traffic
    asked = adapter.decode(adapter.framed(message, {}))
    kept = traffic.redaction(Rules(UserIds.HASH, (), KeyedHash())).redacted(message, {})
    again = adapter.decode(adapter.framed(kept.content, {}))
    assert not kept.is_redacted
    assert list(again.history) == list(asked.history) != []
    assert (again.max_results, again.filter) == (asked.max_results, asked.filter)
    assert again.request_id != asked.request_id == "r1"
    kept = traffic.redaction(Rules(UserIds.HASH, ("history",), KeyedHash())).redacted(message, {})
    without = adapter.decode(adapter.framed(kept.content, {}))
    assert kept.is_redacted
    assert not len(without.history)
    assert without.filter == asked.filter


def test_an_id_in_a_tensor_is_replaced(tmp_path: Path) -> None:
    text = (EXAMPLES / "kserve_v2.toml").read_text().replace("kserve_v2.binpb", f"{EXAMPLES}/kserve_v2.binpb")
    part = 'request_id = "id"'
    (tmp_path / "users.toml").write_text(text.replace(part, f'{part}\nuser_id = {{ tensor = "user" }}'))
    (adapter,) = load(tmp_path / "users.toml").adapters
    traffic: Any = adapter.traffic
    request = adapter.request.parse(captured("kserve_v2", "infer")[1])
    request.inputs.add(name="user", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(written(["ann"], "strings"))
    message, keyed = request.SerializeToString(), KeyedHash()
    kept = traffic.redaction(Rules(UserIds.HASH, (), keyed)).redacted(message, {})
    assert b"ann" not in kept.content
    assert adapter.decode(adapter.framed(kept.content, {})).user_id == keyed.user_key("ann")
    assert not kept.is_redacted
    kept = traffic.redaction(Rules(UserIds.OMIT, ("history",), keyed)).redacted(message, {})
    assert b"ann" not in kept.content
    assert not adapter.decode(adapter.framed(kept.content, {})).user_id
