"""Servers whose requests bring a user's id alone."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pyarrow as pa
import pytest

from meshfold.compat.client import Client
from meshfold.model.types import Query
from meshfold.service.server import Server
from tests.compat.hydration.conftest import FEATURES, HISTORIES, VECTOR, ask, counted, write_users
from tests.waiting import wait_until

Serve = Callable[..., Server]
Expected = Callable[..., list[int]]


def test_a_history_is_filled_in_for_every_protocol(
    serve: Serve, store: Path, users: Path, expected: Expected
) -> None:
    server = serve(store, 'file = "users.parquet"')
    wanted = expected(history=HISTORIES[7])
    assert wanted != expected()
    assert ask(server, user_id=7) == wanted
    with Client(server.address) as client:
        assert client.retrieve(Query("shop", 10, user_id=7)).item_ids.tolist() == wanted  # type: ignore[union-attr]
        # The surface by no name is the only one.
        assert client.retrieve(Query("", 10, user_id=7)).item_ids.tolist() == wanted  # type: ignore[union-attr]
    assert counted(server, "meshfold_hydrations", result="hit") == 3
    assert counted(server, "meshfold_hydration_users") == 3


def test_a_request_keeps_what_it_brings(serve: Serve, store: Path, users: Path, expected: Expected) -> None:
    server = serve(store, 'file = "users.parquet"\nfeatures = []')
    assert ask(server, user_id=7, history=[302]) == expected(history=[302])
    assert counted(server, "meshfold_hydrations", result="whole") == 1
    replacing = serve(store, 'file = "users.parquet"\nreplace = true')
    assert ask(replacing, user_id=7, history=[302]) == expected(history=HISTORIES[7])


def test_features_are_filled_in_beside_those_of_the_request(
    serve: Serve, store: Path, users: Path, expected: Expected
) -> None:
    vectors = pa.array([VECTOR, None, None], pa.list_(pa.float64()))
    write_users(users, HISTORIES, query_vector=vectors, country=["de", None, "fr"])
    server = serve(store, 'file = "users.parquet"')
    wanted = expected(history=HISTORIES[7], features=FEATURES)
    assert wanted != expected(history=HISTORIES[7])
    assert ask(server, user_id=7) == wanted
    assert ask(server, user_id=8) == expected(history=HISTORIES[8])
    own = {"query_vector": {"floats": {"values": VECTOR[::-1]}}}
    assert ask(server, user_id=7, features=own) == expected(history=HISTORIES[7], features=own)
    some = serve(store, 'file = "users.parquet"\nhistory = false\nfeatures = ["query_vector"]')
    assert ask(some, user_id=7) == expected(features=FEATURES)
    others = serve(store, 'file = "users.parquet"\nfeatures = ["country"]')
    assert ask(others, user_id=7) == expected(history=HISTORIES[7])


def test_a_user_who_is_not_known_is_answered_as_one_without_a_history_unless_that_is_an_error(
    serve: Serve, store: Path, users: Path, expected: Expected
) -> None:
    server = serve(store, 'file = "users.parquet"')
    assert ask(server, user_id=404) == expected()
    assert ask(server, user_key="7") == expected()
    assert ask(server) == expected()
    assert counted(server, "meshfold_hydrations", result="miss") == 2
    assert counted(server, "meshfold_hydrations", result="anonymous") == 1
    strict = serve(store, 'file = "users.parquet"\nmiss = "error"')
    with pytest.raises(grpc.RpcError) as caught:
        ask(strict, user_id=404)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "nothing is kept of this user for the surface 'shop'" in caught.value.details()
    assert ask(strict, user_id=404, history=[11]) != ask(strict)
    # A user who met nothing is known.
    assert ask(strict, user_id=9) == expected()


def test_what_the_model_refuses_is_the_sources_fault(
    serve: Serve, store: Path, users: Path, expected: Expected
) -> None:
    write_users(users, HISTORIES, query_vector=[0.5, 0.5, 0.5])
    server = serve(store, 'file = "users.parquet"')
    assert ask(server, user_id=7) == expected()
    assert counted(server, "meshfold_hydration_failures", reason="unfit") == 1
    bad = {"query_vector": {"floats": {"values": [1.0]}}}
    with pytest.raises(grpc.RpcError) as caught:
        ask(server, user_id=7, features=bad)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert counted(server, "meshfold_hydration_failures", reason="unfit") == 1
    strict = serve(store, 'file = "users.parquet"\nmiss = "error"')
    with pytest.raises(grpc.RpcError) as caught:
        ask(strict, user_id=7)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "cannot be looked up (unfit)" in caught.value.details()


def test_the_newest_items_of_a_long_history_are_kept(
    serve: Serve, store: Path, users: Path, expected: Expected
) -> None:
    write_users(users, {7: list(range(10, 400, 3))})
    server = serve(store, 'file = "users.parquet"\nmax_history = 2')
    assert ask(server, user_id=7) == expected(history=list(range(10, 400, 3))[-2:])
    assert counted(server, "meshfold_hydration_cut_histories") == 1


def test_a_file_that_is_replaced_is_swapped_in_and_a_broken_one_is_not(
    serve: Serve, store: Path, users: Path, expected: Expected
) -> None:
    server = serve(store, 'file = "users.parquet"\npoll_interval_s = 0.02')
    first, second = expected(history=HISTORIES[7]), expected(history=[302, 400])
    assert ask(server, user_id=7) == first
    users.write_bytes(b"PAR1 half of a file")
    wait_until(lambda: counted(server, "meshfold_hydration_load_failures") == 1)
    assert ask(server, user_id=7) == first
    users.unlink()
    assert ask(server, user_id=7) == first
    write_users(users, {7: [302, 400]})
    wait_until(lambda: counted(server, "meshfold_hydration_users") == 1)
    assert ask(server, user_id=7) == second
    assert ask(server, user_id=8) == expected()


def test_calls_of_the_mesh_beside_retrieve_are_left_alone(serve: Serve, store: Path, users: Path) -> None:
    from meshfold.protos.mesh.v1 import user_tower_pb2 as tower

    server = serve(store, 'file = "users.parquet"\nmiss = "error"')
    request = tower.EmbedRequest(surface="shop", users=[{"user_id": 404}])
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/mesh.v1.UserTowerService/Embed")
        assert tower.EmbedResponse.FromString(call(request.SerializeToString(), timeout=10)).version


def test_lookups_are_shown_to_prometheus(serve: Serve, store: Path, users: Path) -> None:
    server = serve(store, 'file = "users.parquet"', metrics_address="127.0.0.1:0")
    ask(server, user_id=7)
    ask(server, user_id=404)
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics") as page:
        shown = page.read().decode()
    for line in (
        'meshfold_hydrations_total{result="hit",surface="shop"} 1.0',
        'meshfold_hydrations_total{result="miss",surface="shop"} 1.0',
        'meshfold_hydration_failures_total{reason="down",surface="shop"} 0.0',
        'meshfold_hydration_seconds_count{surface="shop"} 2.0',
        'meshfold_hydration_users{surface="shop"} 3.0',
    ):
        assert line in shown
