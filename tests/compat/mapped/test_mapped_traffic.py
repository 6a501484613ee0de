"""Calls of a caller's own protocol in front of its old server: shadowed, recorded, compared, and asked again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from meshfold.commands.__main__ import main
from meshfold.compat.key import keyed_hash
from meshfold.compat.mapped.compile import load
from meshfold.compat.mapped.traffics import traffics_of
from meshfold.compat.mapped.wire_user import WireUser
from meshfold.compat.migration.stickiness import chosen
from meshfold.compat.migration.wire_scan import Scanned
from meshfold.compat.recording.rules import Rules, UserIds
from meshfold.compat.shadow.audit import SnapshotAnswers
from meshfold.compat.shadow.recorded import OTHER_MAPPING
from meshfold.compat.shadow.recorded_calls import NO_MAPPING
from meshfold.compat.shadow.skipped import Skipped
from meshfold.service.server import Server
from tests.compat.hydration.conftest import redis_server
from tests.compat.mapped.conftest import HERE
from tests.compat.mapped.mapped_front import (
    FEED,
    MAPPINGS,
    OWN,
    RECOMMEND,
    OldServer,
    ask,
    key,
    legacy,
    old_server,
    pairs,
    recommend,
    recorded,
    recs,
    start,
)
from tests.compat.shadow.live_world import rows
from tests.waiting import wait_until

__all__ = ["key", "old_server", "redis_server", "start"]


def test_a_mirrored_call_is_a_pair_live_and_out_of_the_recording(
    start: Callable[..., Server], store: Path, key: str, tmp_path: Path
) -> None:
    server = start("mirror", compares=True)
    request = recommend(watched=["vid_12", "vid_40"], languages=["de"], year_from=1950)
    answer, side = ask(server, RECOMMEND, request)
    assert (side, recs.RecommendResponse.FromString(answer).model) == ("mesh", "acme's own")
    record, shadow = recorded(tmp_path / "recorded", 2)
    wait_until(lambda: bool(rows(tmp_path / "pairs")), 120.0)
    server.stop()
    assert (record.method, record.side, shadow.side) == (RECOMMEND, "mesh", "model")
    assert record.mapping == shadow.mapping == traffics_of(MAPPINGS)[RECOMMEND].digest
    kept = recs.RecommendRequest.FromString(record.request)
    assert kept.user == keyed_hash(key).user_key("ann")
    assert (list(kept.watched), kept.year_from) == (["vid_12", "vid_40"], 1950)
    assert not record.is_redacted

    (pair,) = pairs(tmp_path / "recorded", key)
    (live,) = rows(tmp_path / "pairs")
    model = recs.RecommendResponse.FromString(shadow.answer)
    assert pair.mesh is not None
    assert pair.model is not None
    assert (pair.mesh.item_ids, pair.mesh.scores, pair.mesh.version) == (OWN, (1, 0.875, 0.75), "acme's own")
    assert [f"vid_{item}" for item in pair.model.item_ids] == [video.id for video in model.videos]
    assert pair.model.version == model.model
    assert (pair.surface, pair.max_results, pair.served_by) == ("shop", 3, "mesh")
    assert pair.filter == 'language == "de" && year >= 1950'
    assert pair.user_key == keyed_hash(key).user_key("ann")
    assert (pair.slices["method"], pair.slices["mode"], pair.slices["history"]) == (
        RECOMMEND,
        "mirror",
        "1-4",
    )
    for name in ("mesh_item_ids", "model_item_ids", "mesh_scores", "model_version"):
        side, _, part = name.partition("_")
        held = getattr(getattr(pair, side), part)
        assert live[name] == (list(held) if isinstance(held, tuple) else held)
    for name in ("surface", "user_key", "max_results", "filter", "served_by"):
        assert live[name] == getattr(pair, name)
    # The request says in mesh.v1 what the caller asked, so that an audit asks it again.
    again = SnapshotAnswers(store).answer(pair.request)
    assert again.item_ids == pair.model.item_ids


def test_in_serve_the_old_server_is_the_shadow_by_its_own_method(
    start: Callable[..., Server], old_server: OldServer, tmp_path: Path
) -> None:
    server = start("serve")
    _, side = ask(server, RECOMMEND, recommend())
    assert side == "model"
    header = {"request_id": "r 1"}
    ask(server, FEED, legacy.FeedRequest(header=header, viewer={"id": "bob"}), (("x-page", "shop"),))
    records = recorded(tmp_path / "recorded", 4)
    assert sorted(old_server.asked) == [(FEED, True), (RECOMMEND, True)]
    feed = next(record for record in records if record.method == FEED and not record.shadow)
    # The surface came by metadata, which the mapping reads.
    assert (feed.surface, dict(feed.metadata)) == ("shop", {"x-page": "shop"})


def test_another_page_by_a_token_has_no_shadow(
    start: Callable[..., Server], old_server: OldServer, tmp_path: Path
) -> None:
    server = start("serve")
    request = legacy.FeedRequest(header={"request_id": "r", "page": "shop"}, page_size=3)
    answer, _ = ask(server, FEED, request)
    recorded(tmp_path / "recorded", 2)
    request.page_token = legacy.FeedResponse.FromString(answer).next_page_token
    ask(server, FEED, request)
    ask(server, RECOMMEND, recommend())
    recorded(tmp_path / "recorded", 5)
    assert [method for method, _ in old_server.asked] == [FEED, RECOMMEND]


def test_bytes_that_are_no_request_are_recorded_without_them(
    start: Callable[..., Server], key: str, tmp_path: Path
) -> None:
    server = start("mirror")
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(RECOMMEND)(b"\xff ann", timeout=20)
    record, shadow = recorded(tmp_path / "recorded", 2)
    assert (record.request, record.method, shadow.answer) == (b"", RECOMMEND, b"")


def test_bytes_that_are_no_answer_are_recorded_without_them(
    start: Callable[..., Server], key: str, tmp_path: Path
) -> None:
    server = start("mirror")
    assert ask(server, RECOMMEND, recommend(user="garbled")) == (b"\xff no answer of ann", "mesh")
    record, _ = recorded(tmp_path / "recorded", 2)
    assert (record.answer, record.is_unreadable) == (b"", True)
    skipped = Skipped()
    assert not pairs(tmp_path / "recorded", key, skipped)
    assert skipped.counted["answers that do not decode"] == 1


def test_a_user_may_be_named_by_metadata(tmp_path: Path) -> None:
    mapping = (HERE / "acme_recs.toml").read_text().replace("protos/", f"{HERE}/protos/")
    (tmp_path / "acme.toml").write_text(
        mapping.replace('user_id = "user"', 'user_id = { metadata = "x-user" }')
    )
    (adapter,) = load(tmp_path / "acme.toml").adapters
    message, metadata = recommend().SerializeToString(), {"x-user": "ann", "x-other": "me"}
    scanned = WireUser(adapter.request).scan(message, metadata)
    assert scanned == Scanned("shop", 0, b"", b"ann")
    traffic = traffics_of([tmp_path / "acme.toml"])[RECOMMEND]
    assert traffic.metadata(tuple(metadata.items())) == {"x-user": "ann"}
    kept = traffic.redaction(Rules(UserIds.HASH)).redacted(message, {"x-user": "ann"})
    assert kept.lacks_user
    assert "ann" not in str(kept)


def test_a_request_that_the_mapping_refuses_is_a_failure_of_the_model(
    start: Callable[..., Server], key: str, tmp_path: Path
) -> None:
    server = start("mirror")
    _, side = ask(server, RECOMMEND, recommend(watched=["12"]))
    assert side == "mesh"
    recorded(tmp_path / "recorded", 2)
    (pair,) = pairs(tmp_path / "recorded", key)
    assert pair.mesh is not None
    assert pair.model is not None
    assert (pair.mesh.item_ids, pair.model.status, pair.request) == (OWN, "INVALID_ARGUMENT", b"")


def test_a_recording_needs_its_mapping(
    start: Callable[..., Server], store: Path, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start("mirror")
    for user in ("ann", "bob"):
        ask(server, RECOMMEND, recommend(user=user, watched=["vid_12"]))
    recorded(tmp_path / "recorded", 4)
    server.stop()
    skipped = Skipped()
    assert not pairs(tmp_path / "recorded", key, skipped, {})
    assert skipped.counted[NO_MAPPING] == 2
    # One that was changed since then reads them, and says so.
    changed = MAPPINGS[0].read_text().replace("protos/", f"{HERE}/protos/") + "# changed\n"
    (tmp_path / "changed.toml").write_text(changed)
    skipped = Skipped()
    assert len(pairs(tmp_path / "recorded", key, skipped, traffics_of([tmp_path / "changed.toml"]))) == 2
    assert skipped.counted == {OTHER_MAPPING: 2}
    requests = ["record", "read", str(tmp_path / "recorded"), "--requests", str(tmp_path / "requests.bin")]
    assert main(requests) == 1
    assert "replay --mapping FILE" in capsys.readouterr().err
    words = ["shadow", "compare", str(tmp_path / "recorded"), "--store", str(store)]
    assert main([*words, "--out", str(tmp_path / "without")]) == 1
    assert "--mapping" in capsys.readouterr().err
    mapped = [*words, "--mapping", str(MAPPINGS[0]), "--json"]
    assert main([*mapped, "--out", str(tmp_path / "compared")]) == 0
    (surface,) = json.loads((tmp_path / "compared" / "comparison.json").read_text())["comparison"]["surfaces"]
    assert surface["pairs"] == 2
    capsys.readouterr()
    assert main([*mapped, "--audit", "--out", str(tmp_path / "audited")]) == 0


def test_a_canarys_user_is_the_one_that_the_mapping_names(start: Callable[..., Server]) -> None:
    server = start("canary", percent=50)
    for number in range(10):
        user = f"u{number}"
        on_model = chosen(50, "shop", Scanned("shop", 0, b"", user.encode()), b"")
        for request in (recommend(user=user), recommend(user=user, limit=2)):
            assert ask(server, RECOMMEND, request)[1] == ("model" if on_model else "mesh")
    # Without a user a request stands by its id.
    for name in ("r1", "r2", "r3", "r4"):
        request = legacy.FeedRequest(header={"request_id": name, "page": "shop"}, page_size=2)
        on_model = chosen(50, "shop", Scanned("shop", 0, name.encode()), b"")
        assert ask(server, FEED, request)[1] == ("model" if on_model else "mesh")
