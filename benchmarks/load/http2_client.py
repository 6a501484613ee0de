"""The little of HTTP/2 that a caller needs who does not behave: streams that are opened and left, answers never read.

Sources: RFC 9113, frames and flow control; RFC 7541, 6.2.2 literal header fields without indexing; gRPC over HTTP/2.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

from meshfold.tools.bench_generator import check_loopback

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE = 4
_WINDOW = 65_535
_FRAME = 16_384
_CANCEL = 8
_CONNECT_S = 5.0


class Closed(Exception):
    """The server closed the connection."""


class Connection:
    """One connection. open: streams that neither side has ended. ended: how many the server ended."""

    def __init__(self, address: str, window: int = _WINDOW) -> None:
        """window: bytes that an answer may send; 0 for answers that are never read. Raises OSError."""
        check_loopback(address)
        host, _, port = address.rpartition(":")
        self._authority = address
        self._socket = socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S)
        self._socket.setblocking(False)
        self._next = 1
        self._unsent = bytearray(_PREFACE)
        self._held = bytearray()
        self._window = _WINDOW
        self._stream_window = _WINDOW
        self.open: set[int] = set()
        self.ended = 0
        self._frame(_SETTINGS, 0, 0, _INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big"))

    def close(self) -> None:
        self._socket.close()

    def begin(self, path: str, message: bytes | None = None, end: bool = True) -> int:
        """Opens a stream. message: of a call, sent whole; None for a call whose message never comes. end: whether the
        caller's side ends with it."""
        stream = self._next
        self._next += 2
        self._frame(_HEADERS, _END_HEADERS, stream, b"".join(self._fields(path)))
        if message is not None:
            data = b"\0" + len(message).to_bytes(4, "big") + message
            if len(data) > min(_FRAME, self._stream_window):
                raise ValueError(f"a message may have {_FRAME - 5} bytes here, got {len(message)}")
            self._window -= len(data)
            self._frame(_DATA, _END_STREAM if end else 0, stream, data)
        self.open.add(stream)
        return stream

    def cancel(self, stream: int) -> None:
        if stream in self.open:
            self.open.discard(stream)
            self._frame(_RST_STREAM, 0, stream, _CANCEL.to_bytes(4, "big"))

    @property
    def may_send(self) -> bool:
        """Whether the server has room for a message, and what was sent has left."""
        return self._window >= _FRAME and len(self._unsent) < _WINDOW

    def pump(self) -> None:
        """Sends and receives what goes without waiting. Raises Closed."""
        try:
            self._send()
            while data := self._socket.recv(1 << 16):
                self._held += data
                self._receive()
            raise Closed
        except BlockingIOError:
            return
        except OSError as error:
            raise Closed from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def _send(self) -> None:
        while self._unsent:
            sent = self._socket.send(self._unsent)
            del self._unsent[:sent]

    def _receive(self) -> None:
        while len(self._held) >= 9:
            size = int.from_bytes(self._held[:3], "big")
            if len(self._held) < 9 + size:
                return
            kind, flags = self._held[3], self._held[4]
            stream = int.from_bytes(self._held[5:9], "big") & 0x7FFFFFFF
            payload = bytes(self._held[9 : 9 + size])
            del self._held[: 9 + size]
            self._handle(kind, flags, stream, payload)

    def _handle(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM or kind == _RST_STREAM:
            self.ended += stream in self.open
            self.open.discard(stream)
        if kind == _DATA and payload:
            self._frame(_WINDOW_UPDATE, 0, 0, len(payload).to_bytes(4, "big"))
        elif kind == _SETTINGS and not flags & _ACK:
            for place in range(0, len(payload), 6):
                if int.from_bytes(payload[place : place + 2], "big") == _INITIAL_WINDOW_SIZE:
                    self._stream_window = int.from_bytes(payload[place + 2 : place + 6], "big")
            self._frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self._frame(_PING, _ACK, 0, payload)
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big") & 0x7FFFFFFF
        elif kind == _GOAWAY:
            raise Closed

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
        self._unsent += head + payload

    def _fields(self, path: str) -> Iterator[bytes]:
        for name, value in (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", self._authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ):
            # Both shorter than 127 bytes, so that a length is one byte.
            yield b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


def pump_all(connections: list[Connection], until_s: float) -> int:
    """Pumps connections till a moment of time.monotonic(); removes those that the server closed; returns how many."""
    closed = 0
    for connection in list(connections):
        closed += not _pumped(connection, connections)
    while (left_s := until_s - time.monotonic()) > 0:
        readable, _, _ = select.select(connections, [], [], left_s)
        for connection in readable:
            closed += not _pumped(connection, connections)
    return closed


def _pumped(connection: Connection, connections: list[Connection]) -> bool:
    try:
        connection.pump()
    except Closed:
        connection.close()
        connections.remove(connection)
        return False
    return True
