"""A small HTTP server for browsers and Prometheus: GET only, one request a connection, bounded memory and time."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_log = logging.getLogger(__name__)

# Most connections at once; a further one gets status 503.
MOST_CONNECTIONS = 32
# Most bytes of a request line with its headers, and seconds within which they must arrive.
MOST_HEAD_BYTES, HEAD_S = 16 << 10, 5.0
# Seconds that a client has to read an answer.
_TAKE_S = 30.0
# Seconds and reads that discard bytes sent after a request, until the client closes.
_LINGER_S, _LINGER_READS = 0.5, 16
_MOST_PARAMETERS = 20
# Headers by which a browser runs only the page's own scripts, loads nothing from elsewhere and forbids framing.
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class PageRequest:
    """An HTTP request. path: without the query. query: last value of each parameter. query_text: the raw query.
    headers: by lower-case name."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    query_text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PageAnswer:
    body: bytes
    content_type: str = "text/html; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


# Answers requests of one path, on the connection's own thread.
Page = Callable[[PageRequest], PageAnswer]


def text(message: str, status: int = 200) -> PageAnswer:
    """An answer of one line of plain text."""
    return PageAnswer(f"{message}\n".encode(), "text/plain; charset=utf-8", status)


class HttpPort:
    """An HTTP server that runs from its making until stop()."""

    def __init__(self, host: str, port: int, answer: Page) -> None:
        """answer: answers every request. Raises OSError where the address cannot be bound."""
        self._server = _Server(host, port, answer)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="meshfold-http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, answer: Page) -> None:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        self.answer = answer
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            with suppress(OSError):
                request.setblocking(False)
                request.send(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores errors of a connection that its client closed."""
        error = sys.exception()
        if not isinstance(error, OSError):
            _log.error("a connection failed: %s: %s", type(error).__qualname__, error)


class _Handler(BaseHTTPRequestHandler):
    """Handles a connection; reads the whole head, within its limits, before it parses any of it."""

    server: _Server
    server_version, sys_version = "meshfold", ""

    def setup(self) -> None:
        self.connection = self.request
        self.wfile = self._written = BytesIO()
        self.command, self.request_version = "", "HTTP/1.0"

    def handle(self) -> None:
        head = self._head()
        if head is None:
            self._send(
                text(f"expected a request of at most {MOST_HEAD_BYTES} bytes within {HEAD_S:g} s", 431)
            )
        elif head:
            self.rfile = BytesIO(head)
            self.raw_requestline = self.rfile.readline()
            # The base class calls send_error where the head is not HTTP.
            if self.parse_request():
                self._send(self._answer())

    def finish(self) -> None:
        if not self._written.tell():
            return
        with suppress(OSError):
            self.connection.settimeout(_TAKE_S)
            self.connection.sendall(self._written.getvalue())
            # A close with unread bytes would reset the connection and lose the answer.
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_LINGER_S)
            for _ in range(_LINGER_READS):
                if not self.connection.recv(1 << 16):
                    break

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.request_version = "HTTP/1.0"
        self._send(text(message or HTTPStatus(code).phrase, code))

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing, since Prometheus and open pages send a request every few seconds."""

    def _head(self) -> bytes | None:
        """The bytes up to the empty line; b"" where the client closed first or sent nothing; None past a limit.

        b"" gets no answer: browsers connect ahead of a request and would take the answer for that of a later request.
        """
        head, end_s = b"", time.monotonic() + HEAD_S
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            left_s = end_s - time.monotonic()
            if len(head) > MOST_HEAD_BYTES or left_s <= 0:
                return None
            self.connection.settimeout(left_s)
            try:
                more = self.connection.recv(4096)
            except TimeoutError:
                return None if head else b""
            except OSError:
                return b""
            if not more:
                return b""
            head += more
        return head if len(head) <= MOST_HEAD_BYTES else None

    def _answer(self) -> PageAnswer:
        if self.command != "GET":
            return PageAnswer(b"expected GET\n", "text/plain; charset=utf-8", 405, {"Allow": "GET"})
        try:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS))
        except ValueError as error:
            return text(f"the address cannot be read: {error}", 400)
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            return self.server.answer(PageRequest(parts.path, query, parts.query, headers))
        except Exception as error:  # an error costs this answer, not the server
            _log.error("GET %r failed: %s: %s", self.path[:200], type(error).__qualname__, error)
            return text("this page failed; the server's log tells why", 500)

    def _send(self, answer: PageAnswer) -> None:
        self.send_response_only(answer.status, HTTPStatus(answer.status).phrase)
        given = {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            "Cache-Control": "no-store",
            "Connection": "close",
            **_SECURITY,
            **answer.headers,
        }
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
