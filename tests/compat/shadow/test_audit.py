from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.shadow.answers import answer_of
from meshfold.compat.shadow.audit import NOT_ANSWERED, SnapshotAnswers, audit
from meshfold.compat.shadow.pairs import SideAnswer
from meshfold.compat.shadow.replayable import NO_REQUEST, REDACTED
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData, SnapshotRefused
from meshfold.model.limits import Limits
from meshfold.service.server import Server
from tests.compat.shadow.shop_requests import pair_of, request

MESH = SideAnswer((10, 11), (2.0, 1.0))


def test_a_snapshot_answers_as_a_server_of_its_store_does(store: Path, served: Server) -> None:
    requests = [request(number) for number in range(6)]
    skipped = Skipped()
    pairs = list(audit([pair_of(r, mesh=MESH) for r in requests], SnapshotAnswers(store), skipped))
    with grpc.insecure_channel(served.address) as channel:
        call = channel.unary_unary(METHOD)
        expected = [answer_of(call(r.SerializeToString())) for r in requests]
    for pair, answer in zip(pairs, expected, strict=True):
        assert pair.mesh == MESH
        assert pair.model is not None
        assert len(answer.item_ids) == 10
        assert (pair.model.item_ids, pair.model.scores) == (answer.item_ids, answer.scores)
        assert pair.model.version == answer.version == served.runners["shop"].version
    assert not skipped


def test_a_request_that_a_server_refuses_has_its_status(store: Path) -> None:
    answers = SnapshotAnswers(store, limits=Limits(max_results=20))
    unknown_field = request(0)
    unknown_field.filter.exists.field = "colour"
    for made, status in (
        (request(0, surface=""), "OK"),
        (request(0, max_results=21), "INVALID_ARGUMENT"),
        (unknown_field, "INVALID_ARGUMENT"),
        (request(0, surface="home"), "NOT_FOUND"),
        (request(0, value_formula="none"), "NOT_FOUND"),
    ):
        answer = answers.answer(made.SerializeToString())
        assert answer.status == status
        assert bool(answer.item_ids) == (status == "OK")
    assert answers.answer(b"\xff\xff").status == "INVALID_ARGUMENT"


def test_a_surface_is_named_where_several_are_published(
    tmp_path: Path, publish_items: Callable[..., Path]
) -> None:
    publish_items(tmp_path)
    publish_items(tmp_path, "home", 1)
    both, one = SnapshotAnswers(tmp_path), SnapshotAnswers(tmp_path, "home")
    unnamed = request(0, surface="").SerializeToString()
    assert both.answer(unnamed).status == "INVALID_ARGUMENT"
    assert one.answer(unnamed).status == "OK"
    assert one.answer(request(0).SerializeToString()).status == "NOT_FOUND"


def test_what_cannot_be_asked_again_is_counted_and_named(store: Path) -> None:
    answers = SnapshotAnswers(store)
    left_out = [
        pair_of(request(1), mesh=MESH, is_redacted=True),
        pair_of(request(2), mesh=MESH, request=b""),
        pair_of(request(3)),
    ]
    skipped = Skipped()
    pairs = list(audit([*left_out, pair_of(request(4), mesh=MESH)], answers, skipped))
    assert [pair.request_id for pair in pairs] == ["request-4"]
    assert skipped.counted == {REDACTED: 1, NO_REQUEST: 1, NOT_ANSWERED: 1}
    assert any("first at request 'request-1'" in note for note in skipped.notes())

    with pytest.raises(InvalidData, match=r"no request can be asked again: 'request-1' is redacted"):
        list(audit(left_out, answers, Skipped()))
    # The mesh answered none: nothing to compare, and nothing that could not be asked.
    assert list(audit(left_out[2:], answers, Skipped())) == []


def test_a_store_without_a_snapshot_is_refused(tmp_path: Path, store: Path) -> None:
    for place, surface, message in (
        (tmp_path, "", "holds no snapshot; publish one"),
        (store, "home", "holds no snapshot of surface 'home'"),
        (tmp_path / "none", "", "cannot be read as a store: No such file"),
    ):
        with pytest.raises(SnapshotRefused, match=message):
            SnapshotAnswers(place, surface)
