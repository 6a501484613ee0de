"""A server that takes connections and resets them at their first bytes, as one that crashes in every call."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

# SO_LINGER of no time: a close sends a reset.
_RESET = struct.pack("ii", 1, 0)
_LOOK_S = 0.1


class Crashing:
    """Listens at an address from start to end of the block."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_server((host, int(port)))
        self._socket.settimeout(_LOOK_S)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _work(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError):
                connection, _ = self._socket.accept()
                with connection:
                    connection.settimeout(_LOOK_S)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    connection.recv(1)
