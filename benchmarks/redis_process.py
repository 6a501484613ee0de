"""A Redis for the time of a benchmark."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.waiting import wait_until


def redis_command(folder: str | Path, *words: str) -> list[str]:
    """The command line of a redis-server without snapshots on disk. Raises SystemExit without the program."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is missing: apt-get install redis-server, or put it on the PATH")
    return [program, "--dir", str(folder), "--save", "", *words]


@contextmanager
def redis_process() -> Iterator[Any]:
    """A client of a Redis that keeps nothing on disk."""
    try:
        import hiredis  # noqa: F401 - the client parses in C with it
        import redis
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install 'meshfold[bench]'") from None
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/redis.sock"
        command = redis_command(folder, "--port", "0", "--unixsocket", socket, "--loglevel", "warning")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
            try:
                client = redis.Redis(unix_socket_path=socket)
                _await(client, server, redis.ConnectionError)
                yield client
                client.close()
            finally:
                server.terminate()


def _await(client: Any, server: subprocess.Popen[str], unreachable: type[Exception]) -> None:
    def answers() -> bool:
        if server.poll() is not None:
            output = server.stdout.read().strip() if server.stdout else ""
            raise SystemExit(f"redis-server did not start: {output or 'without output'}")
        with suppress(unreachable):
            return bool(client.ping())
        return False

    wait_until(answers, "redis-server does not answer", every_s=0.02)
