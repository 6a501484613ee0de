"""Users in a real Redis: there, slow, down, and holding garbage."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from meshfold.protos.mesh.v1 import types_pb2 as types
from meshfold.service.server import Server
from tests.compat.hydration.conftest import FEATURES, HISTORIES, VECTOR, RedisProcess, ask, counted
from tests.compat.migration.relay import Relay

Serve = Callable[..., Server]
Expected = Callable[..., list[int]]

JSON = json.dumps({"history": HISTORIES[7], "features": {"query_vector": VECTOR, "country": "de"}})


@pytest.fixture
def relay(redis_server: RedisProcess) -> Iterator[Relay]:
    relay = Relay(redis_server.address)
    yield relay
    relay.close()


def failures(server: Server, reason: str) -> float:
    return counted(server, "meshfold_hydration_failures", reason=reason)


def test_a_user_is_read_as_json_and_as_a_user_context(
    serve: Serve, store: Path, redis_server: RedisProcess, expected: Expected
) -> None:
    redis_server.client.set("user:7", JSON)
    context = types.UserContext(user_id=8, history=HISTORIES[8], features=FEATURES)
    redis_server.client.set("user:8", context.SerializeToString())
    redis_server.client.set("user:ann", b'{"history": [11, 14, 200]}')
    server = serve(
        store, f'redis = "redis://{redis_server.address}/0"\nkey = "user:{{user}}"\ndeadline_s = 5'
    )
    assert ask(server, user_id=7) == expected(history=HISTORIES[7], features=FEATURES)
    assert ask(server, user_id=8) == expected(history=HISTORIES[8], features=FEATURES)
    assert ask(server, user_key="ann") == expected(history=HISTORIES[7])
    assert ask(server, user_id=404) == expected()
    assert counted(server, "meshfold_hydrations", result="hit") == 3
    assert counted(server, "meshfold_hydrations", result="miss") == 1


def test_garbage_follows_the_miss_policy(
    serve: Serve, store: Path, redis_server: RedisProcess, expected: Expected
) -> None:
    values = {
        1: b"\xff\xfe\x00 no message",
        2: b'{"history": [5, 8',
        3: b'{"history": [1.5]}',
        4: b'{"features": {"a": [1, "x"]}}',
        5: b"[" * 100_000,
        6: b"{" + b'"a":[' * 50_000,
        7: types.UserContext(user_id=8, history=[5]).SerializeToString(),
        8: b'{"history": [99999999999999999999]}',
    }
    for user_id, value in values.items():
        redis_server.client.set(f"meshfold:user:{user_id}", value)
    redis_server.client.lpush("meshfold:user:9", "of another type")
    redis_server.client.set("meshfold:user:10", b"{" + b" " * 5000)
    url = f'redis = "redis://{redis_server.address}"\nmax_bytes = 1000000\ndeadline_s = 5'
    server = serve(store, url)
    for user_id in values:
        assert ask(server, user_id=user_id) == expected()
    assert failures(server, "garbage") == len(values)
    assert ask(server, user_id=9) == expected()
    assert failures(server, "down") == 1
    small = serve(store, url.replace("1000000", "1000"))
    assert ask(small, user_id=10) == expected()
    assert failures(small, "large") == 1
    strict = serve(store, f'{url}\nmiss = "error"')
    with pytest.raises(grpc.RpcError) as caught:
        ask(strict, user_id=1)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details().startswith("users of the surface 'shop' cannot be looked up (garbage)")


def test_a_redis_that_is_down_costs_histories_and_comes_back(
    serve: Serve, store: Path, redis_server: RedisProcess, expected: Expected
) -> None:
    redis_server.client.set("meshfold:user:7", JSON)
    server = serve(store, f'redis = "redis://{redis_server.address}"\ndeadline_s = 5')
    wanted = expected(history=HISTORIES[7], features=FEATURES)
    assert ask(server, user_id=7) == wanted
    redis_server.stop()
    for _ in range(15):
        assert ask(server, user_id=7) == expected()
    # After some failures in a row it is asked once a second.
    assert 10 <= failures(server, "down") < 15
    assert failures(server, "down") + failures(server, "paused") == 15
    redis_server.start()
    redis_server.client.set("meshfold:user:7", JSON)
    time.sleep(1.1)
    assert ask(server, user_id=7) == wanted
    assert ask(server, user_id=7) == wanted


def test_a_redis_that_is_slow_costs_no_more_than_the_deadline(
    serve: Serve, store: Path, redis_server: RedisProcess, expected: Expected
) -> None:
    redis_server.client.set("meshfold:user:7", JSON)
    server = serve(store, f'redis = "redis://{redis_server.address}"\ndeadline_s = 0.1')
    sleeping = threading.Thread(target=redis_server.client.execute_command, args=("DEBUG", "SLEEP", "2"))
    sleeping.start()
    time.sleep(0.2)
    assert ask(server, user_id=7, timeout_s=1.5) == expected()
    assert sleeping.is_alive()
    assert failures(server, "late") == 1
    sleeping.join()
    # The answer that came late went with its connection: nobody gets another's history.
    redis_server.client.set("meshfold:user:8", b'{"history": [301, 304]}')
    assert ask(server, user_id=8) == expected(history=HISTORIES[8])


def test_connections_that_fall_silent_are_left(
    serve: Serve, store: Path, redis_server: RedisProcess, relay: Relay, expected: Expected
) -> None:
    redis_server.client.set("meshfold:user:7", JSON)
    server = serve(store, f'redis = "redis://{relay.address}"\ndeadline_s = 0.2\nconcurrency = 2')
    wanted = expected(history=HISTORIES[7], features=FEATURES)
    assert ask(server, user_id=7) == wanted
    relay.forget()
    assert ask(server, user_id=7) == expected()
    assert ask(server, user_id=7) == wanted
    # Two lookups wait, and a third is not made.
    relay.forget(later_too=True)
    threads = [threading.Thread(target=ask, args=(server,), kwargs={"user_id": 7}) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures(server, "late") + failures(server, "full") == 7
    assert failures(server, "full") >= 1
    relay.remember()
    assert ask(server, user_id=7) == wanted
    assert counted(server, "meshfold_hydration_lookups") == 0
