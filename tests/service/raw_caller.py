"""A caller that speaks HTTP/2 by hand, and reads no answers: it leaves the flow-control window of every stream shut."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

_HEADERS, _SETTINGS, _DATA, _CONTINUATION, _PING, _GOAWAY = 1, 4, 0, 9, 6, 7
_ACK = 1
_FRAME = 16384
_END_STREAM, _END_HEADERS = 1, 4
_INITIAL_WINDOW_SIZE = 4


class RawCaller:
    """One connection. ended: numbers of calls that the server ended with a status, which needs no window. pongs:
    answers to pings. is_sent_away: whether the server ends the connection."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        shut = struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0)
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, shut))
        self._calls = 0
        self.ended: set[int] = set()
        self.pongs = 0
        self.is_sent_away = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(
        self,
        method: str,
        message: bytes | None,
        timeout: str = "",
        headers: Mapping[str, str] | None = None,
        whole: bool = True,
    ) -> int:
        """The number of a new call. message: None for a call whose message never comes. timeout: as gRPC writes it.
        whole: whether its headers ever end."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "raw",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        if timeout:
            fields["grpc-timeout"] = timeout
        fields |= headers or {}
        number, self._calls = self._calls, self._calls + 1
        stream = 2 * number + 1
        block = b"".join(map(_literal, fields.items()))
        parts = [block[start : start + _FRAME] for start in range(0, len(block), _FRAME)]
        frames = b"".join(
            _frame(
                _CONTINUATION if place else _HEADERS,
                _END_HEADERS if whole and place == len(parts) - 1 else 0,
                stream,
                part,
            )
            for place, part in enumerate(parts)
        )
        if message is not None:
            frames += _frame(_DATA, _END_STREAM, stream, b"\0" + struct.pack(">I", len(message)) + message)
        self._socket.sendall(frames)
        return number

    def ping(self) -> None:
        with suppress(ConnectionError):
            self._socket.sendall(_frame(_PING, 0, 0, b"12345678"))

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def _read(self) -> None:
        """Reads frames, so that none waits in the connection, and notes streams that end."""
        with self._socket.makefile("rb") as file, suppress(ConnectionError):
            while len(head := file.read(9)) == 9:
                size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                stream = int.from_bytes(head[5:], "big")
                file.read(size)
                if kind == _HEADERS and flags & _END_STREAM:
                    self.ended.add(stream // 2)
                self.pongs += kind == _PING and flags == _ACK
                self.is_sent_away |= kind == _GOAWAY


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + body


def _literal(field: tuple[str, str]) -> bytes:
    """A header field without indexing (RFC 7541 6.2.2). Characters up to U+00FF are bytes."""
    name, value = (text.encode("latin-1") for text in field)
    return bytes([0]) + _length(len(name)) + name + _length(len(value)) + value


def _length(length: int) -> bytes:
    """An integer with seven bits in its first byte (RFC 7541 5.1)."""
    if length < 127:
        return bytes([length])
    rest, coded = length - 127, bytearray([127])
    while rest >= 128:
        coded.append(rest % 128 + 128)
        rest //= 128
    return bytes([*coded, rest])
