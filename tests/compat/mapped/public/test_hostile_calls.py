"""Mutated requests over gRPC: an answer or a refusal in the words of the caller, never a crash or a hang."""

from __future__ import annotations

import random
from collections import Counter, deque
from importlib import import_module
from typing import Any

import grpc
import pytest

from tests.compat.mapped.public.conftest import NAMES, REQUESTS, captured
from tests.compat.requests import mutated

acme: Any = import_module("tests.compat.mapped.protos.acme_recs_pb2")
OK, REFUSED = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
# Of the server's own state or of names in a request.
ALLOWED = {OK, REFUSED, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}
_WAITING = 32


def requests() -> list[tuple[str, bytes]]:
    """(method, bytes) of every captured request, and one of the made-up protocol."""
    found = [captured(name, file.stem) for name in NAMES for file in sorted((REQUESTS / name).iterdir())]
    recommend = acme.RecommendRequest(page="shop", user="u", watched=["vid_12"], limit=5, languages=["de"])
    return [*found, ("/acme.recs.v1.Recommender/Recommend", recommend.SerializeToString())]


def shower(public: grpc.Channel, acme_channel: grpc.Channel, seed: int, count: int) -> Counter[Any]:
    """How many calls ended with each status."""
    draw = random.Random(seed)
    good = requests()
    codes: Counter[Any] = Counter()
    waiting: deque[tuple[Any, str, bytes]] = deque()

    def end() -> None:
        call, method, message = waiting.popleft()
        code = call.code()
        assert code in ALLOWED, (code, call.details(), method, message)
        codes[code] += 1

    for _ in range(count):
        method, message = draw.choice(good)
        for _ in range(draw.choice((1, 1, 2, 8))):
            message = mutated(draw, message)
        channel = acme_channel if method.startswith("/acme.") else public
        waiting.append((channel.unary_unary(method).future(message, timeout=60), method, message))
        if len(waiting) >= _WAITING:
            end()
    while waiting:
        end()
    return codes


def test_1500_mutated_calls_are_answered_or_refused(public: grpc.Channel, channel: grpc.Channel) -> None:
    codes = shower(public, channel, 1, 1500)
    assert codes[OK] > 50
    assert codes[REFUSED] > 500


@pytest.mark.long
def test_100000_mutated_calls_are_answered_or_refused(public: grpc.Channel, channel: grpc.Channel) -> None:
    codes = shower(public, channel, 2, 100_000)
    assert codes[OK] > 1000
    assert codes[REFUSED] > 30_000
