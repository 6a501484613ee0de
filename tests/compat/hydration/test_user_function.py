from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshfold.service.server import Server
from tests.compat.hydration.conftest import HISTORIES, ask, counted

Serve = Callable[..., Server]
Expected = Callable[..., list[int]]

MODULE = """
import threading

let_go = threading.Event()
HISTORIES = {7: [11, 14, 200]}

def plain(user_id):
    if user_id == 13:
        raise LookupError(f"of user {user_id}")
    if user_id == 14:
        let_go.wait(30)
    if user_id == 15:
        return [1, 2]
    return {"history": HISTORIES[user_id]} if user_id in HISTORIES else None

async def awaited(user_id):
    return plain(user_id)
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[str]:
    name = "users_of_a_test"
    (tmp_path / f"{name}.py").write_text(MODULE)
    before = list(sys.path)
    yield name
    sys.path[:] = before
    del sys.modules[name]


@pytest.mark.parametrize("name", ["plain", "awaited"])
def test_a_function_says_what_is_kept(
    serve: Serve,
    store: Path,
    module: str,
    expected: Expected,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = serve(store, f'function = "{module}:{name}"\ndeadline_s = 5')
    assert ask(server, user_id=7) == expected(history=HISTORIES[7])
    for unknown in (404, 13, 15):
        assert ask(server, user_id=unknown) == expected()
    assert counted(server, "meshfold_hydrations", result="miss") == 1
    assert counted(server, "meshfold_hydration_failures", reason="down") == 1
    assert counted(server, "meshfold_hydration_failures", reason="garbage") == 1
    assert "LookupError" in caplog.text
    assert "of user 13" not in caplog.text


def test_a_function_that_hangs_holds_its_own_threads_alone(
    serve: Serve, store: Path, module: str, expected: Expected
) -> None:
    server = serve(store, f'function = "{module}:plain"\ndeadline_s = 0.1\nthreads = 1\nconcurrency = 2')
    start_s = time.monotonic()
    for _ in range(5):
        assert ask(server, user_id=14) == expected()
    # The first hangs, later ones wait for its thread until there is no room.
    assert counted(server, "meshfold_hydration_failures", reason="late") == 3
    assert counted(server, "meshfold_hydration_failures", reason="full") == 2
    server.stop()
    assert time.monotonic() - start_s < 25
    sys.modules[module].let_go.set()
