"""Users that were filled in for mapped calls, in recordings; and recordings in `meshfold adapt`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from meshfold.commands.__main__ import main
from meshfold.compat.shadow.audit import SnapshotAnswers
from meshfold.protos.mesh.v1 import types_pb2 as types
from meshfold.service.server import Server
from tests.compat.hydration.conftest import HISTORIES, RedisProcess, redis_server
from tests.compat.mapped.mapped_front import (
    FILE,
    MAPPINGS,
    RECOMMEND,
    ask,
    key,
    old_server,
    pairs,
    recommend,
    recorded,
    recs,
    start,
    write_users,
)
from tests.compat.shadow.live_world import rows
from tests.waiting import wait_until

__all__ = ["key", "old_server", "redis_server", "start"]


@pytest.mark.parametrize("source", ["file", "redis"])
def test_what_was_filled_in_is_recorded_and_asked_again(
    source: str,
    start: Callable[..., Server],
    store: Path,
    key: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if source == "redis":
        redis: RedisProcess = request.getfixturevalue("redis_server")
        redis.client.set("user:ann", json.dumps({"history": HISTORIES[7]}))
        hydrate = f'redis = "redis://{redis.address}/0"\nkey = "user:{{user}}"\ndeadline_s = 5'
    else:
        write_users(tmp_path / "users.parquet", {"ann": HISTORIES[7]})
        hydrate = FILE
    server = start("mirror", hydrate, compares=source == "redis")
    ask(server, RECOMMEND, recommend(limit=5))
    record, shadow = recorded(tmp_path / "recorded", 2)
    if source == "redis":
        wait_until(lambda: bool(rows(tmp_path / "pairs")), 120.0)
    server.stop()
    # The mesh fetched the history itself; the model was told it.
    assert (record.is_redacted, record.hydrated) == (True, b"")
    assert (shadow.is_redacted, shadow.request) == (False, b"")
    (pair,) = pairs(tmp_path / "recorded", key)
    assert not pair.is_redacted
    assert pair.model is not None
    assert SnapshotAnswers(store).answer(pair.request).item_ids == pair.model.item_ids
    assert pair.slices["history"] == "1-4"
    if source == "redis":
        (live,) = rows(tmp_path / "pairs")
        assert SnapshotAnswers(store).answer(live["request"]).item_ids == pair.model.item_ids


def test_what_is_left_out_of_users_is_left_out_of_what_was_filled_in(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    write_users(tmp_path / "users.parquet", {"ann": HISTORIES[7]})
    server = start("only", FILE, omit="history")
    ask(server, RECOMMEND, recommend())
    (record,) = recorded(tmp_path / "recorded", 1)
    assert (record.is_redacted, types.UserContext.FromString(record.hydrated)) == (True, types.UserContext())


def test_adapt_reads_a_recording_and_shows_an_answer(
    start: Callable[..., Server], store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start("mirror")
    request = recommend(watched=["vid_12"])
    for _ in range(2):
        ask(server, RECOMMEND, request)
    _, shadow, *_ = recorded(tmp_path / "recorded", 4)
    server.stop()
    mapping = str(MAPPINGS[0])
    assert main(["adapt", "check", mapping, "--recording", str(tmp_path / "recorded")]) == 0
    assert "2 requests, 0 refused, 0 fields ignored" in capsys.readouterr().out
    (tmp_path / "request.binpb").write_bytes(request.SerializeToString())
    (tmp_path / "answer.binpb").write_bytes(shadow.answer)
    words = ["adapt", "explain", mapping, str(tmp_path / "request.binpb")]
    assert main([*words, "--answer", str(tmp_path / "answer.binpb")]) == 0
    told = capsys.readouterr().out
    model = recs.RecommendResponse.FromString(shadow.answer)
    ids = ", ".join(video.id.removeprefix("vid_") for video in model.videos)
    assert f"item_ids: {ids}" in told
    assert f"version: {model.model}" in told
    assert main([*words, "--store", str(store)]) == 0
    assert f"item_ids: {ids}" in capsys.readouterr().out
    (tmp_path / "broken").write_bytes(b"\xff")
    assert main([*words, "--answer", str(tmp_path / "broken")]) == 1
    assert "is no acme.recs.v1.RecommendResponse" in capsys.readouterr().err
