"""Calls of a caller's own protocol in front of its old server: shadowed, recorded, compared, and asked again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.commands.__main__ import ADAPTERS, main
from meshfold.compat.hydration.hydration import open_hydration
from meshfold.compat.key import keyed_hash, write_key
from meshfold.compat.mapped.compile import load
from meshfold.compat.mapped.registration import adapters_of
from meshfold.compat.mapped.traffics import traffics_of
from meshfold.compat.mapped.wire_user import WireUser
from meshfold.compat.migration.front import Front
from meshfold.compat.migration.stickiness import chosen
from meshfold.compat.migration.wire_scan import Scanned
from meshfold.compat.recording.record_files import read_records
from meshfold.compat.recording.rules import Rules, UserIds
from meshfold.compat.shadow.audit import SnapshotAnswers
from meshfold.compat.shadow.pairs import Pair
from meshfold.compat.shadow.recorded import recorded_pairs
from meshfold.compat.shadow.recorded_calls import NO_MAPPING
from meshfold.compat.shadow.skipped import Skipped
from meshfold.protos.mesh.v1 import types_pb2 as types
from meshfold.service.comparison import ComparisonConfig
from meshfold.service.config import ServerConfig
from meshfold.service.migration import MigrationConfig
from meshfold.service.recording import RecordingConfig
from meshfold.service.server import Server
from tests.compat.hydration.conftest import HISTORIES, RedisProcess, redis_server
from tests.compat.mapped.conftest import HERE
from tests.compat.migration.test_proxy import switch
from tests.compat.shadow.live_world import rows, wait_until

__all__ = ["redis_server"]

recs: Any = import_module("tests.compat.mapped.protos.acme_recs_pb2")
legacy: Any = import_module("tests.compat.mapped.protos.acme_legacy_pb2")
RECOMMEND, FEED = "/acme.recs.v1.Recommender/Recommend", "/acme.legacy.Feed/GetFeed"
MAPPINGS = (HERE / "acme_recs.toml", HERE / "acme_legacy.toml")
FILE = 'file = "users.parquet"\ndeadline_s = 5'
# Of acme's own server, to every request.
OWN = (11, 12, 14)


class OldServer:
    """Acme's own. asked: (method, whether as a shadow) of each call."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []
        self._turn = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        unary = grpc.unary_unary_rpc_method_handler
        for service, method, answer in (
            ("acme.recs.v1.Recommender", "Recommend", self._recommend),
            ("acme.legacy.Feed", "GetFeed", self._feed),
        ):
            handlers = {method: unary(answer)}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _told(self, method: str, context: Any) -> None:
        with self._turn:
            self.asked.append((method, "meshfold-shadow" in dict(context.invocation_metadata())))

    def _recommend(self, message: bytes, context: Any) -> bytes:
        self._told(RECOMMEND, context)
        request = recs.RecommendRequest.FromString(message)
        if request.user == "garbled":
            return b"\xff no answer of ann"
        limit = request.limit or 20
        videos = [{"id": f"vid_{item}", "score": 1 - place / 8} for place, item in enumerate(OWN)]
        return bytes(recs.RecommendResponse(videos=videos[:limit], model="acme's own").SerializeToString())

    def _feed(self, message: bytes, context: Any) -> bytes:
        self._told(FEED, context)
        request = legacy.FeedRequest.FromString(message)
        response = legacy.FeedResponse(request_id=request.header.request_id, status={"code": 200})
        for place, item in enumerate(OWN):
            response.videos.add(video_id=f"vid_{item}", score={"millis": 1000 - 125 * place})
        return bytes(response.SerializeToString())


@pytest.fixture
def old_server() -> Iterator[OldServer]:
    server = OldServer()
    yield server
    server.stop()


@pytest.fixture
def key(tmp_path: Path) -> str:
    write_key(tmp_path / "key")
    return str(tmp_path / "key")


@pytest.fixture
def start(old_server: OldServer, store: Path, key: str, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """(mode, settings) -> a server in front of acme's, which records into tmp_path, and compares there too."""
    servers: list[Server] = []

    def start(
        mode: str, hydrate: str = "", percent: float = 0.0, compares: bool = False, **recording: Any
    ) -> Server:
        if hydrate:
            (tmp_path / "hydrate.toml").write_text(f"[hydrate.shop]\n{hydrate}\n")
        config = ServerConfig(
            address="127.0.0.1:0",
            store=store,
            mesh=old_server.address,
            queue_s=60.0,
            mapping=",".join(map(str, MAPPINGS)),
            hydrate=str(tmp_path / "hydrate.toml") if hydrate else "",
            migration=MigrationConfig(state=str(tmp_path / "modes.json")),
            recording=RecordingConfig(on=True, folder=str(tmp_path / "recorded"), key_file=key, **recording),
            comparison=ComparisonConfig(
                on=compares, folder=str(tmp_path / "pairs"), file_age_s=0.5, key_file=key, keep_requests=True
            ),
        )
        server = Server(config, adapters_of(config, ADAPTERS), Front, open_hydration=open_hydration)
        servers.append(server)
        server.start()
        switch(server, mode, percent)
        return server

    yield start
    for server in servers:
        server.stop()


def ask(server: Server, method: str, request: Any, metadata: Any = ()) -> tuple[bytes, str]:
    """(the answer, who gave it)."""
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(method)
        answer, done = call.with_call(request.SerializePartialToString(), timeout=20, metadata=metadata)
    return answer, dict(done.trailing_metadata())["meshfold-answered-by"]


def write_users(path: Path, histories: dict[str, list[int]]) -> None:
    history = pa.array(list(histories.values()), pa.list_(pa.int64()))
    pq.write_table(pa.table({"user_key": list(histories), "history": history}), path)


def recommend(**fields: Any) -> Any:
    return recs.RecommendRequest(**{"page": "shop", "user": "ann", "limit": 3, **fields})


def recorded(folder: Path, count: int) -> list[Any]:
    """Once so many records are there."""

    def records() -> list[Any]:
        return list(read_records(folder)) if list(folder.glob("*")) else []

    wait_until(lambda: len(records()) == count)
    return sorted(records(), key=lambda record: (record.call, record.shadow))


def pairs(place: Path, key: str, skipped: Skipped | None = None, traffics: Any = None) -> list[Pair]:
    given = traffics_of(MAPPINGS) if traffics is None else traffics
    return list(
        recorded_pairs(place, keyed_hash(key), Skipped() if skipped is None else skipped, traffics=given)
    )


def test_a_mirrored_call_is_a_pair_live_and_out_of_the_recording(
    start: Callable[..., Server], store: Path, key: str, tmp_path: Path
) -> None:
    server = start("mirror", compares=True)
    request = recommend(watched=["vid_12", "vid_40"], languages=["de"], year_from=1950)
    answer, side = ask(server, RECOMMEND, request)
    assert (side, recs.RecommendResponse.FromString(answer).model) == ("mesh", "acme's own")
    record, shadow = recorded(tmp_path / "recorded", 2)
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
