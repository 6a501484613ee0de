from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from meshfold.compat.gate.prometheus import asked
from meshfold.compat.gate.settings import PrometheusQuery
from meshfold.compat.gate.verdict import Decision


@contextmanager
def answering(
    body: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """An HTTP server with one answer: its address, and the paths that it was asked."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", paths
        finally:
            server.shutdown()
            thread.join()


def result(value: str, kind: str = "vector") -> bytes:
    one: Any = [1, value] if kind == "scalar" else [{"metric": {}, "value": [1, value]}]
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": one}}).encode()


@pytest.mark.parametrize(
    ("body", "decision", "told"),
    [
        (result("3.5"), Decision.YES, "3.5, as wanted (at most 4)"),
        (result("4", "scalar"), Decision.YES, "4, as wanted"),
        (result("4.5"), Decision.NO, "4.5, where at most 4 is wanted"),
        (result("NaN"), Decision.NOT_ENOUGH, "it gives NaN"),
        (b"<html>", Decision.NOT_ENOUGH, "no JSON"),
        (b"[" * 100_000, Decision.NOT_ENOUGH, "no JSON"),
        (b"[]", Decision.NOT_ENOUGH, "no instant vector"),
        (
            b'{"status": "error", "error": "parse error"}',
            Decision.NOT_ENOUGH,
            "refuses the query: parse error",
        ),
        (
            b'{"status": "success", "data": {"resultType": "vector", "result": []}}',
            Decision.NOT_ENOUGH,
            "0 series; aggregate them",
        ),
        (b" " * ((1 << 20) + 1), Decision.NOT_ENOUGH, "more than 1048576 bytes"),
    ],
)
def test_a_querys_number_is_held_against_its_bounds(body: bytes, decision: Decision, told: str) -> None:
    with answering(body) as (url, paths):
        reason = asked(PrometheusQuery("load", f"{url}/", 'sum(up{job="a b"})', at_most=4))
    assert (reason.name, reason.decision) == ("load", decision)
    assert told in reason.sentence
    [path] = paths
    assert urlsplit(path).path == "/api/v1/query"
    assert parse_qs(urlsplit(path).query) == {"query": ['sum(up{job="a b"})']}


def test_at_least() -> None:
    with answering(result("2")) as (url, _):
        reason = asked(PrometheusQuery("replicas", url, "up", at_least=3))
    assert (reason.decision, reason.sentence) == (Decision.NO, "2, where at least 3 is wanted")


def test_a_server_that_fails_decides_nothing() -> None:
    with answering(b"", 503) as (url, _):
        reason = asked(PrometheusQuery("load", url, "up", at_most=4))
    assert reason.decision is Decision.NOT_ENOUGH
    assert "status 503" in reason.sentence
    gone = asked(PrometheusQuery("load", url, "up", at_most=4))
    assert gone.decision is Decision.NOT_ENOUGH
    assert "cannot be asked" in gone.sentence
    with answering(b"", 302, {"Location": f"{url}/elsewhere"}) as (moved, paths):
        assert asked(PrometheusQuery("load", moved, "up", at_most=4)).decision is Decision.NOT_ENOUGH
    assert len(paths) == 1
