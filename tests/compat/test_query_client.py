"""Requests of mesh.v1 as the client encodes them decode to the same query; answers come back whole."""

from __future__ import annotations

import socket
import threading
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshfold.compat.client import CallFailed
from meshfold.compat.mesh_messages import decode_response, encode_request
from meshfold.compat.mesh_v1 import retrieve
from meshfold.compat.query_client import QueryClient
from meshfold.model.errors import DeadlineExceeded, InvalidQuery
from meshfold.model.types import Candidates, MaxPerValue, Query
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from tests.compat.test_client import parts, queries

STRINGS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1, max_size=4
)


@given(queries())
def test_integer_ids_survive_the_wire(query: Query) -> None:
    assert parts(retrieve.decode(encode_request(query))) == parts(query)


@given(STRINGS, STRINGS, st.text(min_size=1, max_size=8, alphabet="aé1"))
def test_string_ids_survive_the_wire(history: list[str], excluded: list[str], user: str) -> None:
    query = Query("shop", 5, user_id=user, history=tuple(history), excluded_ids=tuple(excluded))
    decoded = retrieve.decode(encode_request(query))
    assert (decoded.user_id, decoded.history, decoded.excluded_ids) == (user, tuple(history), tuple(excluded))


@pytest.mark.parametrize(
    ("query", "path"),
    [
        (Query("shop", 5, max_per_value=MaxPerValue("language", 1)), "max_per_value"),
        (Query("shop", 5, fields=("title",)), "fields"),
        (Query("shop", 1 << 40), "max_results"),
        (Query("shop", 5, user_id=1 << 63), "user_id"),
        (Query("\ud800", 5), "surface"),
    ],
)
def test_what_the_message_cannot_hold_is_refused(query: Query, path: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        encode_request(query)
    assert caught.value.path == path


@pytest.mark.parametrize("item_ids", [np.array([7, -3, 0]), ("vid_1", "a b", "é")])
def test_answers_come_back_whole(item_ids: Any) -> None:
    numbers = np.array([0.5, 0.25, 0.125], np.float32)
    scores = np.arange(6, dtype=np.float32).reshape(3, 2)
    candidates = Candidates(("like", "watch"), "v1", item_ids, numbers, numbers, scores, explain={"a": "b"})
    back, versions = decode_response(retrieve.encode(Query("shop", 5), candidates))
    assert list(back.item_ids) == list(item_ids)
    assert isinstance(back.item_ids, tuple) is isinstance(item_ids, tuple)
    assert back.values.tolist() == back.similarities.tolist() == numbers.tolist()
    assert back.task_scores.tolist() == scores.tolist()
    assert (back.tasks, back.version, dict(back.explain)) == (("like", "watch"), "v1", {"a": "b"})
    assert versions == dict.fromkeys(("user_tower", "index", "filter", "scoring"), "v1")


def test_an_empty_answer_has_its_tasks() -> None:
    back, _ = decode_response(pb.RetrieveResponse(tasks=["like"]).SerializeToString())
    assert (len(back.item_ids), back.task_scores.shape) == (0, (0, 1))


@pytest.mark.parametrize(
    "message",
    [b"\xff", pb.RetrieveResponse(tasks=["like"], candidates=[{"item_id": 1}]).SerializeToString()],
)
def test_an_answer_that_is_none_is_told(message: bytes) -> None:
    with pytest.raises(CallFailed):
        decode_response(message)


def test_a_server_of_neither_protocol_is_told() -> None:
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = QueryClient(f"127.0.0.1:{port}")
    try:
        with pytest.raises(CallFailed, match="neither a meshfold server nor a mesh"):
            client.ask(Query("shop", 5), 5.0)
    finally:
        client.close()
        server.stop(None).wait()


def test_a_port_that_accepts_and_is_silent_is_told_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []
        threading.Thread(target=lambda: accepted.append(listener.accept()[0]), daemon=True).start()
        client = QueryClient(f"127.0.0.1:{listener.getsockname()[1]}")
        try:
            with pytest.raises(DeadlineExceeded, match=r"within 0\.3 s"):
                client.ask(Query("shop", 5), 0.3)
        finally:
            client.close()
            for connection in accepted:
                connection.close()
