"""A TCP relay in front of a server, which can fall silent as a load balancer does that has forgotten a connection."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Relay:
    """Forwards bytes both ways. Connections that fall silent stay open, and the kernel goes on acknowledging what is
    sent to them. connections: accepted so far."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        # Of each connection: set once it forwards no more.
        self._silenced: list[threading.Event] = []
        self._sockets: list[socket.socket] = []
        self.accepts_silent = False
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def forget(self, later_too: bool = False) -> None:
        """No byte passes any more on the connections that are open. later_too: nor on later ones."""
        self.accepts_silent = later_too
        for silenced in self._silenced:
            silenced.set()

    def remember(self) -> None:
        """Later connections are forwarded."""
        self.accepts_silent = False

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                self.connections += 1
                silenced = threading.Event()
                if self.accepts_silent:
                    silenced.set()
                self._silenced.append(silenced)
                self._sockets.append(caller)
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    caller.close()
                    continue
                self._sockets.append(server)
                for one, other in ((caller, server), (server, caller)):
                    threading.Thread(target=self._forward, args=(one, other, silenced), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket, silenced: threading.Event) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                if not silenced.is_set():
                    other.sendall(data)
            # A connection that is forgotten does not tell its end.
            if not silenced.is_set():
                other.shutdown(socket.SHUT_WR)
