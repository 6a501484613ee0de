"""Published snapshots, and servers of mappings, as their tests have them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.service.conftest import publish_items, store

__all__ = ["publish_items", "store"]

HERE = Path(__file__).parent
# Of servers. Clients of public protocols need packages that the server cannot have beside its own.
PYTHON = os.environ.get("SERVER_PYTHON", sys.executable)
# (flags) -> the address of `meshfold serve` with them.
Start = Callable[..., str]
# (flags) -> a channel to it.
Serve = Callable[..., grpc.Channel]


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def start(*flags: str) -> str:
        # A busy machine is no reason to refuse what these tests send.
        words = ["serve", "--address", "127.0.0.1:0", "--queue-s", "60", *flags]
        process = subprocess.Popen(
            [PYTHON, "-m", "meshfold.commands", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        found = re.match(r"listening on (\S+?),", line)
        assert found, line + process.stderr.read()
        return found[1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def serve(start: Start) -> Iterator[Serve]:
    channels: list[grpc.Channel] = []

    def serve(*flags: str) -> grpc.Channel:
        channels.append(grpc.insecure_channel(start(*flags)))
        return channels[-1]

    yield serve
    for channel in channels:
        channel.close()


@pytest.fixture(scope="session")
def channel(serve: Serve, store: Path) -> grpc.Channel:
    """To a server of both of acme's protocols."""
    flags = [word for name in ("recs", "legacy") for word in ("--mapping", str(HERE / f"acme_{name}.toml"))]
    return serve("--store", str(store), *flags)
