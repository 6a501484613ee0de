"""In front of a legacy server of the caller's own protocol: mapped methods follow modes, everything else passes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.commands.__main__ import ADAPTERS
from meshfold.compat.mapped.compile import load
from meshfold.compat.mapped.registration import adapters_of
from meshfold.compat.mapped.wire_user import WireUser
from meshfold.compat.migration.front import Front
from meshfold.compat.migration.stickiness import chosen
from meshfold.compat.migration.wire_scan import Scanned
from meshfold.service.config import ServerConfig
from meshfold.service.migration import MigrationConfig
from meshfold.service.server import Server
from tests.compat.mapped.conftest import HERE
from tests.compat.migration.test_proxy import switch

recs: Any = import_module("tests.compat.mapped.protos.acme_recs_pb2")
legacy: Any = import_module("tests.compat.mapped.protos.acme_legacy_pb2")
RECOMMEND = "/acme.recs.v1.Recommender/Recommend"
FEED = "/acme.legacy.Feed/GetFeed"


@pytest.fixture
def old_server() -> Iterator[str]:
    """The address of acme's own server, with answers of its own."""

    def recommend(request: bytes, _: Any) -> bytes:
        recs.RecommendRequest.FromString(request)
        return bytes(recs.RecommendResponse(model="acme's own").SerializeToString())

    def watch(_: bytes, __: Any) -> Iterator[bytes]:
        yield from (b"one", b"two")

    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "acme.recs.v1.Recommender",
                {"Recommend": unary(recommend), "Unmapped": unary(lambda request, _: request)},
            ),
            grpc.method_handlers_generic_handler("acme.legacy.Feed", {"WatchFeed": stream(watch)}),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def server(old_server: str, store: Path, tmp_path: Path) -> Iterator[Server]:
    config = ServerConfig(
        address="127.0.0.1:0",
        store=store,
        mesh=old_server,
        queue_s=60.0,
        mapping=f"{HERE / 'acme_recs.toml'},{HERE / 'acme_legacy.toml'}",
        migration=MigrationConfig(state=str(tmp_path / "modes.json")),
    )
    server = Server(config, adapters_of(config, ADAPTERS), Front)
    server.start()
    yield server
    server.stop()


def asked(channel: grpc.Channel, user: str) -> tuple[str, Any]:
    """(who answered, the answer)."""
    request = recs.RecommendRequest(page="shop", user=user, limit=3).SerializeToString()
    answer, call = channel.unary_unary(RECOMMEND).with_call(request, timeout=20)
    return dict(call.trailing_metadata())["meshfold-answered-by"], recs.RecommendResponse.FromString(answer)


def test_a_mapped_method_follows_the_modes_of_its_surface(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        side, answer = asked(channel, "u1")
        assert (side, answer.model) == ("mesh", "acme's own")
        switch(server, "only")
        side, answer = asked(channel, "u1")
        assert side == "model"
        assert len(answer.videos) == 3
        switch(server, "canary", 50)
        for number in range(20):
            user = f"u{number}"
            model = chosen(50, "shop", Scanned("shop", 0, b"", user.encode()), b"")
            assert asked(channel, user)[0] == ("model" if model else "mesh")


def test_streams_and_unmapped_methods_pass_through(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        assert list(channel.unary_stream("/acme.legacy.Feed/WatchFeed")(b"", timeout=20)) == [b"one", b"two"]
        passed = channel.unary_unary("/acme.recs.v1.Recommender/Unmapped")(b"\xff as it is", timeout=20)
        assert passed == b"\xff as it is"


def test_metadata_reach_the_model_behind_the_modes(server: Server) -> None:
    request = legacy.FeedRequest(header={"request_id": "r"}, page_size=2).SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        switch(server, "only")
        answer, call = channel.unary_unary(FEED).with_call(
            request, timeout=20, metadata=(("x-page", "shop"),)
        )
        trailing = dict(call.trailing_metadata())
        assert len(legacy.FeedResponse.FromString(answer).videos) == 2
        assert (trailing["x-count"], trailing["meshfold-answered-by"]) == ("2", "model")


def test_surface_and_user_are_read_from_the_wire_or_the_message() -> None:
    (adapter,) = load(HERE / "acme_recs.toml").adapters
    scan = WireUser(adapter.request).scan
    assert scan(recs.RecommendRequest(page="home", user="é").SerializeToString()) == Scanned(
        "home", 0, b"", "é".encode()
    )
    assert scan(b"") == Scanned("", 0, b"")
    assert scan(b"\xff\xff") is None
    (adapter,) = load(HERE / "acme_legacy.toml").adapters
    scan = WireUser(adapter.request).scan
    request = legacy.FeedRequest(header={"request_id": "r", "page": "home"}, viewer={"id": "7"})
    assert scan(request.SerializeToString()) == Scanned("home", 0, b"r", b"7")
    assert scan(b"") is None
