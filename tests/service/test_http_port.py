"""The port of metrics and pages: what it answers, and what it holds against clients."""

from __future__ import annotations

import http.client
import logging
import socket
import time
from collections.abc import Iterator

import pytest

from meshfold.service import http_port
from meshfold.service.http_port import MOST_CONNECTIONS, MOST_HEAD_BYTES, HttpPort, PageAnswer, PageRequest
from meshfold.service.metrics import Metrics


def answer(request: PageRequest) -> PageAnswer:
    if request.path == "/fails":
        raise RuntimeError("planted")
    return PageAnswer(repr((request.path, dict(request.query))).encode())


@pytest.fixture
def port() -> Iterator[int]:
    http = HttpPort("127.0.0.1", 0, answer)
    yield http.port
    http.stop()


def get(port: int, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode(), dict(response.headers)
    finally:
        connection.close()


def raw(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(sent)
        got = b""
        try:
            while more := client.recv(65536):
                got += more
        except ConnectionError:
            pass
    return got


def test_a_page_gets_path_and_query_and_a_browser_is_told_what_it_may(port: int) -> None:
    status, body, headers = get(port, "/shadow?surface=a%2Fb&surface=%C3%BC&empty=")
    assert (status, body) == (200, "('/shadow', {'surface': 'ü', 'empty': ''})")
    assert "script-src 'self';" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_nothing_but_get_is_answered(port: int, method: str) -> None:
    status, _, headers = get(port, "/shadow", method)
    assert (status, headers["Allow"]) == (405, "GET")


def test_what_is_no_request_is_told_and_the_next_one_is_answered(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_port, "HEAD_S", 0.2)
    long = b"GET / HTTP/1.1\r\nX: " + b"x" * MOST_HEAD_BYTES + b"\r\n\r\n"
    assert raw(port, long).startswith(b"HTTP/1.0 431 ")
    assert raw(port, b"GET / HTTP/1.1\r\nX: ").startswith(b"HTTP/1.0 431 ")
    # A browser connects before it asks: what it is told then would answer a later request.
    assert raw(port, b"") == b""
    assert raw(port, b"\x16\x03\x01\x02\x00 \xff\r\n\r\n").startswith(b"HTTP/1.0 400 ")
    assert raw(port, b"GET http://[ HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.0 400 ")
    many = "&".join(f"n{i}=1" for i in range(30))
    assert get(port, f"/?{many}")[0] == 400
    with caplog.at_level(logging.ERROR):
        assert get(port, "/fails")[0] == 500
    assert "planted" in caplog.text
    assert get(port, "/")[0] == 200


def test_more_connections_than_there_is_room_for_come_back_later(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_CONNECTIONS)]
    end_s = time.monotonic() + 10
    while not (got := raw(port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.0 503 ") and got:
        assert time.monotonic() < end_s
    for client in held:
        client.close()
    while not raw(port, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.0 200 "):
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_pages_stand_beside_the_metrics_with_links_to_them() -> None:
    metrics = Metrics()
    port = int(metrics.listen("127.0.0.1:0").rpartition(":")[2])
    try:
        # Without pages every path is Prometheus's.
        assert "meshfold_gc_pause_seconds" in get(port, "/")[1]
        metrics.show({"/shadow": answer, "/shadow/style.css": answer})
        index = get(port, "/")[1]
        assert 'href="/shadow"' in index
        assert 'href="/metrics"' in index
        assert "style.css" not in index
        assert get(port, "/shadow")[1] == "('/shadow', {})"
        status, told, headers = get(port, "/metrics")
        assert status == 200
        assert "meshfold_gc_pause_seconds" in told
        assert headers["Content-Type"].startswith("text/plain; version=")
    finally:
        metrics.stop()
