"""Acme's old server, and servers in front of it that record and compare its calls."""

from __future__ import annotations

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

from meshfold.commands.__main__ import ADAPTERS
from meshfold.compat.hydration.hydration import open_hydration
from meshfold.compat.key import keyed_hash, write_key
from meshfold.compat.mapped.registration import adapters_of
from meshfold.compat.mapped.traffics import traffics_of
from meshfold.compat.migration.front import Front
from meshfold.compat.recording.record_files import read_records
from meshfold.compat.shadow.pairs import Pair
from meshfold.compat.shadow.recorded import recorded_pairs
from meshfold.compat.shadow.skipped import Skipped
from meshfold.service.comparison import ComparisonConfig
from meshfold.service.config import ServerConfig
from meshfold.service.migration import MigrationConfig
from meshfold.service.recording import RecordingConfig
from meshfold.service.server import Server
from tests.compat.mapped.conftest import HERE
from tests.compat.migration.test_proxy import switch
from tests.waiting import wait_until

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
