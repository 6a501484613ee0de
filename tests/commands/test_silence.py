"""No command waits in silence: each says on stderr what it waits for."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

SOON = """
import sys
from meshfold.commands import console
console._SILENT_S, console._TICK_S = 0.1, 0.01
sys.argv = ["meshfold", *{argv!r}]
from meshfold.commands.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    accepted.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in accepted:
        connection.close()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["query", "--timeout", "0.6", "--address"], "waiting for 127.0.0.1:"),
        (["mode", "--timeout", "0.6", "--address"], "meshfold mode: "),
        (["record", "--timeout", "0.6", "--address"], "meshfold record: "),
    ],
)
def test_a_server_that_is_silent_is_waited_for_aloud(silent: str, argv: list[str], said: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SOON.format(argv=[*argv, silent])], capture_output=True, text=True, check=False
    )
    *waited, told = run.stderr.splitlines()
    assert run.returncode == 1
    assert told.startswith("meshfold: no answer from ")
    assert len([line for line in waited if line.startswith(said)]) >= 2
    assert run.stdout == ""
