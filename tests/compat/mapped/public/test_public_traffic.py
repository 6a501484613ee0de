"""Calls of public protocols as recordings and comparisons read them: asked again in mesh.v1, and answers read back."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from meshfold.compat.key import KeyedHash
from meshfold.compat.mapped.compile import Mapping
from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.recording.rules import Rules, UserIds
from meshfold.compat.shadow.answers import answer_of
from tests.compat.mapped.public.conftest import NAMES, REQUESTS, captured

CALLS = [
    (name, file.stem)
    for name in NAMES
    for file in sorted((REQUESTS / name).glob("*.bin"))
    # Of a surface that is not served.
    if file.stem != "infer_other_model"
]


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
        assert traffic.questions(kept.content, {}) == questions
    whole = traffic.redaction(Rules(UserIds.KEEP)).redacted(message, {})
    assert whole.content == message
