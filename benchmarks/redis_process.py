"""A Redis that is started for a benchmark and ends with it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_START_S = 30.0


def redis_program() -> str:
    """Raises SystemExit where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is missing: apt-get install redis-server, or put it on the PATH")
    return program


@contextmanager
def redis_process() -> Iterator[Any]:
    """A client of a Redis that is started for this and keeps nothing on disk."""
    try:
        import hiredis  # noqa: F401 - the client parses in C where it is there
        import redis
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install 'meshfold[bench]'") from None
    program = redis_program()
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/redis.sock"
        command = [program, "--port", "0", "--unixsocket", socket, "--dir", folder]
        command += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
            try:
                client = redis.Redis(unix_socket_path=socket)
                _await(client, server, redis.ConnectionError)
                yield client
                client.close()
            finally:
                server.terminate()


def _await(client: Any, server: subprocess.Popen[str], unreachable: type[Exception]) -> None:
    end_s = time.monotonic() + _START_S
    while True:
        try:
            client.ping()
            return
        except unreachable:
            if server.poll() is not None or time.monotonic() > end_s:
                server.kill()
                said = server.stdout.read().strip() if server.stdout else ""
                raise SystemExit(f"redis-server did not start: {said or 'it said nothing'}") from None
            time.sleep(0.02)
