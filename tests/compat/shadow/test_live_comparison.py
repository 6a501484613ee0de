from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.shadow.live.sampling import asks_again
from meshfold.model.errors import InvalidConfig
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.mesh.v1 import types_pb2 as types
from meshfold.service.comparison import ComparisonConfig
from meshfold.service.server import Server
from tests.compat.migration.conftest import (
    Seen,
    ToldMesh,
    ask,
    mesh,
    publish_items,
    request,
    seen,
    start,
    store,
)
from tests.compat.shadow.live_world import answer, rows, workers
from tests.service.test_metrics import fetched
from tests.waiting import wait_until

__all__ = ["mesh", "publish_items", "seen", "start", "store"]

Start = Callable[..., Server]
USER, HISTORY, COUNTRY, REQUEST_ID = 987_654_321_012, [13, 14, 377], "Liechtenstein", "session-of-somebody"
# As the mesh answers: 11 is in English, 12 in Spanish (tests/service/conftest.py).
MESH = answer((11, 12, 14))


def compared(start: Start, store: Path, folder: Path, mode: str = "mirror", **settings: Any) -> Server:
    given = {"folder": str(folder), "noise_delay_s": 0.05, "file_age_s": 0.5, **settings}
    config = ComparisonConfig(on=True, **given)
    server = start(store, {"comparison": config, "metrics_address": "127.0.0.1:0"})
    client = MigrationClient(server.admin_address)
    client.set("shop", mode, 50.0 if mode == "canary" else 0.0, "a test", "")
    client.close()
    return server


def personal(number: int) -> bytes:
    """A request that holds what is personal, for what is in English."""
    message: bytes = pb.RetrieveRequest(
        request_id=f"{REQUEST_ID} {number}",
        surface="shop",
        max_results=5,
        user={
            "user_id": USER,
            "history": HISTORY,
            "features": {"country": {"strings": {"values": [COUNTRY]}}},
        },
        filter={"match": {"field": "language", "strings": ["en"]}},
        excluded_item_ids=[77_771],
    ).SerializeToString()
    return message


def test_mirrored_calls_become_pairs_and_figures_and_tell_nothing_personal(
    start: Start, store: Path, tmp_path: Path, mesh: ToldMesh
) -> None:
    folder = tmp_path / "pairs"
    server = compared(start, store, folder, noise_share=1.0, features="country")
    asked_again = [n for n in range(200) if asks_again(1 / 16, personal(n))][:3]
    once = [n for n in range(200) if not asks_again(1 / 16, personal(n))][:7]
    with grpc.insecure_channel(server.address) as channel:
        for number in (*asked_again, *once):
            got = ask(channel, personal(number), x_answer_bin=MESH, x_again_bin=answer((11, 14)))
            assert got.message == MESH
    wait_until(lambda: fetched(server.metrics_address).get(("meshfold_comparison_written_total",)) == 10)
    found = fetched(server.metrics_address)
    prefix = "meshfold_comparison_"
    assert found[f"{prefix}pairs_total", "compared", "shop"] == 10
    assert found[f"{prefix}noise_pairs_total", "shop"] == found[f"{prefix}asked_again_total", "shop"] == 3
    # Of the mesh's three items one is in English; all of the model's are.
    assert found[f"{prefix}violations_total", "mesh", "shop"] == 20
    assert found[f"{prefix}checked_items_total", "mesh", "shop"] == 30
    assert found[f"{prefix}violations_total", "model", "shop"] == 0
    assert found[f"{prefix}checked_items_total", "model", "shop"] == 50
    # Of three items and five, two or fewer are common.
    assert found[f"{prefix}overlap_bucket", "0.4", "shop"] == found[f"{prefix}overlap_count", "shop"] == 10
    assert found[f"{prefix}overlap_sum", "shop"] == pytest.approx(
        10 * found[f"{prefix}overlap_recent", "model", "shop"]
    )
    assert found[f"{prefix}overlap_recent", "mesh_again", "shop"] == pytest.approx(2 / 3)
    assert (f"{prefix}latency_difference_seconds", "0.5", "shop") in found
    server.stop()
    # The mesh was told which calls reach nobody.
    told = [call.metadata for call in mesh.calls if "meshfold-again" in call.metadata]
    assert [(t["meshfold-again"], t["meshfold-shadow"]) for t in told] == [("1", "1")] * 3
    written = rows(folder)
    assert len(written) == 10
    assert {tuple(row["mesh_item_ids"]) for row in written} == {(11, 12, 14)}
    assert sorted(tuple(row["again_item_ids"] or ()) for row in written) == [()] * 7 + [(11, 14)] * 3
    assert all(len(row["model_item_ids"]) == 5 and row["model_status"] == "OK" for row in written)
    assert {row["is_redacted"] for row in written} == {True}
    assert len({row["user_key"] for row in written}) == 1
    # The operator named the feature, and it is a slice; the request does not hold it.
    for row in written:
        assert dict(row.pop("slices"))["feature.country"] == COUNTRY
    said = json.dumps(written, default=lambda value: value.hex() + repr(value))
    packed = types.UserContext(history=HISTORY).SerializeToString()
    for secret in (str(USER), COUNTRY, REQUEST_ID, packed.hex(), repr(packed)[2:-1], "77771"):
        assert secret not in said
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    for secret in (REQUEST_ID.encode(), USER.to_bytes(8, "little"), packed):
        assert secret not in content


def test_callers_do_not_notice_a_process_that_hangs_or_dies(
    start: Start, store: Path, tmp_path: Path
) -> None:
    server = compared(start, store, tmp_path / "pairs", queue=5)
    large = answer(range(20_000))
    with grpc.insecure_channel(server.address) as channel:
        for stop in (signal.SIGSTOP, signal.SIGKILL):
            wait_until(workers)
            os.kill(workers()[0], stop)
            start_s = time.monotonic()
            for number in range(40):
                got = ask(channel, request(1, request_id=str(number)), x_answer_bin=large)
                assert got.code is grpc.StatusCode.OK
            assert time.monotonic() - start_s < 30
            wait_until(lambda: fetched(server.metrics_address)["meshfold_shadow_queue",] == 0)
            assert fetched(server.metrics_address)["meshfold_comparison_dropped_total", "queue"] >= 20
    start_s = time.monotonic()
    server.stop()
    assert time.monotonic() - start_s < 20
    assert workers() == []


def test_a_stop_waits_for_no_second_answer_and_writes_the_last_pairs(
    start: Start, store: Path, tmp_path: Path, seen: Seen
) -> None:
    given: dict[str, Any] = {"noise_share": 1.0, "noise_delay_s": 600.0, "file_age_s": 3600.0}
    server = compared(start, store, tmp_path / "pairs", **given)
    numbers = range(200)
    again = next(n for n in numbers if asks_again(1 / 16, personal(n)))
    once = next(n for n in numbers if not asks_again(1 / 16, personal(n)))
    with grpc.insecure_channel(server.address) as channel:
        ask(channel, personal(once), x_answer_bin=MESH)
        measured = ("meshfold_comparison_pairs_total", "compared", "shop")
        wait_until(lambda: fetched(server.metrics_address).get(measured) == 1)
        ask(channel, personal(again), x_answer_bin=MESH)
        wait_until(lambda: len(seen.shadows) == 2)
    server.stop()
    written = rows(tmp_path / "pairs")
    assert [row["mesh_item_ids"] for row in written] == [[11, 12, 14]] * 2
    assert [row["again_status"] for row in written] == [None, None]


def test_of_a_canary_the_other_side_is_asked_for_a_share_of_users_on_either_side(
    start: Start, store: Path, tmp_path: Path, seen: Seen
) -> None:
    server = compared(start, store, tmp_path / "pairs", "canary", share=0.0, canary_share=0.5)
    with grpc.insecure_channel(server.address) as channel:
        answered = {user: ask(channel, request(user)).side for user in range(1, 101)}
        wait_until(lambda: fetched(server.metrics_address)["meshfold_shadow_queue",] == 0)
        time.sleep(0.1)
        first = {(told.outcome.side.value, shadow.side.value) for told, shadow in seen.shadows}
        assert first == {("mesh", "model"), ("model", "mesh")}
        for side in ("mesh", "model"):
            of_side = sum(told.outcome.side == side for told, _ in seen.shadows)
            assert 0.25 < of_side / list(answered.values()).count(side) < 0.75
        shadowed = [told.message for told, _ in seen.shadows]
        for user in range(1, 101):
            ask(channel, request(user))
        wait_until(lambda: len(seen.shadows) == 2 * len(shadowed))
        # The same users again.
        assert sorted(told.message for told, _ in seen.shadows[len(shadowed) :]) == sorted(shadowed)


def test_settings_that_cannot_be_followed_stop_a_server_before_it_listens(
    start: Start, store: Path, tmp_path: Path
) -> None:
    for settings, said in (
        ({"key_file": str(tmp_path / "none")}, "the key file .* cannot be read"),
        ({"omit": "history"}, "what is left out of pairs is one of filter, request"),
    ):
        with pytest.raises(InvalidConfig, match=said):
            compared(start, store, tmp_path / "pairs", **settings)
    assert workers() == []
