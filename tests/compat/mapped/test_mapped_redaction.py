"""What a recording keeps of a caller's own protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.key import KeyedHash
from meshfold.compat.mapped.adapter import MappedAdapter
from meshfold.compat.recording.rules import Rules, UserIds
from tests.compat.mapped.personal_protocol import SECRETS, clinic, request_of

__all__ = ["clinic", "request_of"]

KEYED = KeyedHash(b"k" * 32)


def redaction(clinic: MappedAdapter, user_ids: str = "hash", *omit: str) -> Any:
    assert clinic.traffic is not None
    return clinic.traffic.redaction(Rules(UserIds(user_ids), omit, KEYED))


def test_only_what_the_mapping_reads_is_kept_and_ids_are_hashes(
    clinic: MappedAdapter, request_of: Callable[..., Any]
) -> None:
    message = request_of().SerializeToString() + b"\xf8\x07\x05"
    kept = redaction(clinic).redacted(message, {})
    for secret in (*SECRETS, "ann", "trace 12", "pulse", "year > 1990"):
        assert secret.encode() not in kept.content
    request = clinic.request.parse(kept.content)
    assert request.person.id == KEYED.user_key("ann")
    assert request.trace == KEYED.request_id("trace 12")
    # A required field that nothing reads has a value, and none of the caller's.
    assert request.person.shoe_size == ""
    assert list(request.words) == ["", "watch"]
    query = clinic.decode(kept.content)
    assert (query.surface, query.max_results, query.value_formula) == ("shop", 3, "watch")
    assert list(query.history) == [1, 2]
    assert {name: list(values) for name, values in query.features.items()} == {"age": [40], "friend": [77]}
    assert set(kept.left_out) == {
        *("person.email", "person.shoe_size", "inputs.text", "inputs", "hint.diary"),
        *("params[...]", "words", "note"),
    }
    # The owner of the protocol marked a filter that the mapping reads.
    assert kept.is_redacted
    without = request_of()
    without.ClearField("secret_filter")
    assert not redaction(clinic).redacted(without.SerializeToString(), {}).is_redacted


@pytest.mark.parametrize(
    ("user_ids", "omit", "user", "history", "features"),
    [
        ("omit", (), "", [1, 2], {"age", "friend"}),
        ("keep", ("history",), "ann", [], {"age", "friend"}),
        ("keep", ("features",), "ann", [1, 2], set()),
    ],
)
def test_the_operators_rules_decide_about_what_the_protocol_marks(
    clinic: MappedAdapter,
    request_of: Callable[..., Any],
    user_ids: str,
    omit: tuple[str, ...],
    user: str,
    history: list[int],
    features: set[str],
) -> None:
    request = request_of()
    request.ClearField("secret_filter")
    kept = redaction(clinic, user_ids, *omit).redacted(request.SerializeToString(), {})
    query = clinic.decode(kept.content)
    assert (query.user_id or "", list(query.history), set(query.features)) == (user, history, features)
    assert kept.is_redacted is bool(omit)


def test_bytes_stay_as_they_came_but_for_what_is_marked(
    clinic: MappedAdapter, request_of: Callable[..., Any]
) -> None:
    whole = redaction(clinic, "keep")
    kind = GetMessageClass(clinic.descriptor.input_type)
    plain = kind(trace="t", note="a note", size=3).SerializeToString() + b"\xf8\x07\x05"
    assert whole.redacted(plain, {}).content == plain
    kept = whole.redacted(request_of().SerializeToString(), {})
    request = clinic.request.parse(kept.content)
    assert (request.person.id, request.note, request.person.email) == ("ann", "a note", "")
    assert set(kept.left_out) == {"person.email", "person.shoe_size"}


def test_without_a_history_only_the_id_tells_who_asked(
    clinic: MappedAdapter, request_of: Callable[..., Any]
) -> None:
    request = request_of()
    request.ClearField("seen")
    request.ClearField("secret_filter")
    kept = redaction(clinic).redacted(request.SerializeToString(), {})
    assert kept.is_redacted
    assert kept.lacks_user
    assert not redaction(clinic, "keep").redacted(request.SerializeToString(), {}).is_redacted


def test_an_answer_repeats_nothing_personal(clinic: MappedAdapter) -> None:
    answer = GetMessageClass(clinic.descriptor.output_type)(
        trace="trace 12",
        picks=[{"id": "item_3", "points": 107, "why": "since monday"}],
        greeting="hello dear",
        for_whom="ann",
    )
    kept = type(answer).FromString(redaction(clinic).answer(answer.SerializeToString()))
    assert (kept.trace, kept.for_whom) == (KEYED.request_id("trace 12"), KEYED.user_key("ann"))
    assert [(pick.id, pick.points, pick.why) for pick in kept.picks] == [("item_3", 107, "")]
    assert not kept.HasField("greeting")
    whole = redaction(clinic, "keep")
    assert whole.answer(answer.SerializeToString()) == answer.SerializeToString()


def test_bytes_that_are_no_message_are_not_kept(clinic: MappedAdapter) -> None:
    for user_ids in UserIds:
        kept = redaction(clinic, user_ids).redacted(b"\xff ann", {})
        assert (kept.content, kept.is_redacted) == (b"", True)
        assert redaction(clinic, user_ids).answer(b"\xff ann") == b""
