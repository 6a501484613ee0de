from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.shadow.audit import SnapshotAnswers
from meshfold.compat.shadow.pairs import Pair, PairSide, SideAnswer
from meshfold.compat.shadow.replay import Replay, ReplaySettings
from meshfold.model.errors import InvalidConfig, InvalidData, Unavailable
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.server import Server
from tests.compat.shadow.shop_requests import pair_of, request

FAST = ReplaySettings(rate=500)


class Mesh:
    """A server of mesh.v1 whose answers differ each time: item ids count its calls.

    stands: a request waits until this is set.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[pb.RetrieveRequest, dict[str, Any]]] = []
        self.stands = threading.Event()
        self.stands.set()
        handler = grpc.unary_unary_rpc_method_handler(self._answer)
        service, method = METHOD.split("/")[1:]
        self._server = grpc.server(
            ThreadPoolExecutor(8),
            handlers=[grpc.method_handlers_generic_handler(service, {method: handler})],
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self.stands.set()
        self._server.stop(None).wait()

    def _answer(self, message: bytes, context: Any) -> bytes:
        self.stands.wait(30)
        asked = pb.RetrieveRequest.FromString(message)
        self.calls.append((asked, dict(context.invocation_metadata())))
        if asked.max_results == 7:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        if asked.max_results == 8:
            return b"\xff"
        answer = pb.RetrieveResponse(request_id=asked.request_id)
        answer.candidates.add(item_id=len(self.calls), value=0.5)
        encoded: bytes = answer.SerializeToString()
        return encoded


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    mesh = Mesh()
    yield mesh
    mesh.stop()


def by_id(pairs: list[Pair]) -> dict[str, Pair]:
    return {pair.request_id: pair for pair in pairs}


def test_both_sides_are_asked_the_same(mesh: Mesh, served: Server, store: Path) -> None:
    requests = [request(number) for number in range(12)]
    replay = Replay({PairSide.MESH: mesh.address, PairSide.MODEL: served.address}, FAST)
    pairs = by_id(list(replay.pairs(map(pair_of, requests))))
    answers = SnapshotAnswers(store)
    assert replay.asked == len(pairs) == 12
    for asked in requests:
        pair = pairs[asked.request_id]
        assert pair.mesh is not None
        assert pair.model is not None
        expected = answers.answer(asked.SerializeToString())
        assert (pair.model.item_ids, pair.model.version) == (expected.item_ids, expected.version)
        assert pair.mesh.scores == (0.5,)
        assert pair.mesh.latency_ms > 0
        assert pair.model.latency_ms > 0
        assert pair.unix_ms > 0
    assert sorted(asked.request_id for asked, _ in mesh.calls) == sorted(pairs)
    assert all(metadata["meshfold-shadow"] == "1" for _, metadata in mesh.calls)


def test_a_side_that_is_not_asked_keeps_its_answer(mesh: Mesh) -> None:
    recorded = SideAnswer((1, 2, 3))
    (pair,) = Replay({PairSide.MODEL: mesh.address}, FAST).pairs([pair_of(request(0), mesh=recorded)])
    assert pair.mesh == recorded
    assert pair.model is not None
    assert pair.model.item_ids == (1,)
    (alone,) = Replay({PairSide.MESH: mesh.address}, FAST).pairs([pair_of(request(0))])
    assert alone.model is None


def test_failures_are_answers(mesh: Mesh) -> None:
    requests = [request(0, max_results=7), request(1, max_results=8), request(2)]
    pairs = by_id(list(Replay({PairSide.MESH: mesh.address}, FAST).pairs(map(pair_of, requests))))
    statuses = {name: pair.mesh.status for name, pair in pairs.items() if pair.mesh}
    assert statuses == {"request-0": "RESOURCE_EXHAUSTED", "request-1": "DATA_LOSS", "request-2": "OK"}

    mesh.stands.clear()
    (late,) = Replay({PairSide.MESH: mesh.address}, ReplaySettings(500, timeout_s=0.2)).pairs(
        [pair_of(request(3))]
    )
    assert late.mesh is not None
    assert late.mesh.status == "DEADLINE_EXCEEDED"
    assert late.mesh.latency_ms >= 190


def test_a_share_of_the_requests_is_asked_twice_and_marked(mesh: Mesh) -> None:
    requests = [request(number) for number in range(200)]
    settings = ReplaySettings(2000, noise=0.5, noise_delay_s=0.1)
    pairs = list(Replay({PairSide.MESH: mesh.address}, settings).pairs(map(pair_of, requests)))
    again = {pair.request_id for pair in pairs if pair.again is not None}
    assert 60 < len(again) < 140
    assert all(pair.again != pair.mesh for pair in pairs if pair.again is not None)
    calls = Counter(asked.request_id for asked, _ in mesh.calls)
    assert calls == {r.request_id: 1 + (r.request_id in again) for r in requests}
    marked = {asked.request_id for asked, metadata in mesh.calls if "meshfold-again" in metadata}
    assert marked == again


def test_requests_are_due_whether_earlier_ones_have_answers(mesh: Mesh) -> None:
    mesh.stands.clear()
    replay = Replay({PairSide.MESH: mesh.address}, ReplaySettings(1000, in_flight=4))
    threading.Timer(0.3, mesh.stands.set).start()
    pairs = list(replay.pairs(pair_of(request(number)) for number in range(20)))
    assert len(pairs) == 20
    # Four were on their way; what came after them waited for room, and the wait is theirs.
    assert replay.late == 16
    assert min(pair.mesh.latency_ms for pair in pairs if pair.mesh) > 200


def test_a_stop_keeps_what_is_there(mesh: Mesh) -> None:
    def endless() -> Iterator[Pair]:
        number = 0
        while True:
            yield pair_of(request(number))
            number += 1

    replay = Replay({PairSide.MESH: mesh.address}, ReplaySettings(200, noise=1, noise_delay_s=60))
    pairs = []
    threading.Timer(0.3, replay.stop).start()
    for pair in replay.pairs(endless()):
        pairs.append(pair)
    assert 0 < len(pairs) == replay.asked
    assert all(pair.mesh and pair.mesh.status == "OK" for pair in pairs)


def test_requests_that_cannot_be_read_lose_none_of_those_before(mesh: Mesh) -> None:
    def cut() -> Iterator[Pair]:
        for number in range(100):
            yield pair_of(request(number))
        raise InvalidData("the recording ends here")

    pairs: list[Pair] = []
    with pytest.raises(InvalidData, match="the recording ends here"):
        pairs.extend(Replay({PairSide.MESH: mesh.address}, FAST).pairs(cut()))
    assert len(pairs) == 100


def test_a_server_that_is_not_there_is_told_before_anything_is_asked(mesh: Mesh) -> None:
    nowhere = {PairSide.MESH: mesh.address, PairSide.MODEL: "127.0.0.1:1"}
    with pytest.raises(Unavailable, match=r"no server answers at 127\.0\.0\.1:1 within 0\.2 s"):
        list(Replay(nowhere, ReplaySettings(10, timeout_s=0.2)).pairs([pair_of(request(0))]))
    assert mesh.calls == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReplaySettings(0), "rate must be from"),
        (lambda: ReplaySettings(float("nan")), "rate must be from"),
        (lambda: ReplaySettings(1, noise=1.5), "noise must be from 0 to 1"),
        (lambda: Replay({}, FAST), "needs the address of a server"),
        (lambda: Replay({PairSide.MODEL: "a:1"}, ReplaySettings(1, noise=0.1)), "name the mesh's server"),
    ],
)
def test_settings_that_do_not_fit(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        make()
