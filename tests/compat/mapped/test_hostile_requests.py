"""Mutated requests of a mapped protocol: an answer or a refusal in the caller's words, never an error of ours."""

from __future__ import annotations

import random
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as Packed

from meshfold.compat.mapped.compile import load
from meshfold.model.errors import (
    DeadlineExceeded,
    InvalidQuery,
    Overloaded,
    Unavailable,
    UnknownName,
    Unprepared,
)
from meshfold.model.limits import Limits
from meshfold.model.store import Store
from meshfold.service.runner import Runner
from meshfold.service.work import Work, run_alone
from tests.compat.mapped.conftest import HERE
from tests.compat.requests import mutated

pb: Any = import_module("tests.compat.mapped.protos.acme_legacy_pb2")
LIMITS = Limits()
# Those that have a status of their own.
TOLD = (InvalidQuery, UnknownName, Unprepared, Unavailable, Overloaded, DeadlineExceeded)
FILTERS = (
    ["lang=de", "year>=1950", "year!=1,2", "lang=" + "x," * 50],
    ["lang", "year=x", "year<1e400", "=", "year>nan"],
)


def request(draw: random.Random, adapter: Any) -> bytes:
    """Of every field, sometimes."""

    def some(good: list[Any], bad: list[Any]) -> list[Any]:
        return [draw.choice(good if draw.randrange(20) else bad) for _ in range(draw.randrange(4))]

    ids = ["vid_12", "vid_9223372036854775807"], ["vid_", "12", "vid_07", "\0"]
    made = pb.FeedRequest(
        header={"request_id": "r", "page": draw.choice(["shop", "shop", "shop", "", "elsewhere"])},
        viewer={
            "id": "u",
            "market": draw.choice([1, 2, 2, 3]),
            "watched": [{"video": v} for v in some(*ids)],
        },
        page_size=draw.choice([1, 5, 20, 20, 20, 0, 2**31 - 1]),
        page_token=draw.choice(["", "", "", "", "AAAA", "é"]),
        filter=some(*FILTERS),
        hidden=some(*ids),
        inputs=[
            {"name": n, "numbers": [1, -1], "reals": some([0.5], [1e300])} for n in some(["a"], ["b", ""])
        ],
    )
    made.Extensions[pb.year_from] = draw.choice([0, 1950, -(2**31)])
    packed = Packed()
    packed.Pack(pb.Device(markets=some([1, 3], [0])))
    made.context.CopyFrom(packed)
    content = bytes(made.SerializePartialToString())
    for _ in range(draw.choice([0, 0, 1, 2])):
        content = mutated(draw, content)
    framed: bytes = adapter.framed(content, {"x-page": "shop"} if not draw.randrange(10) else {})
    return framed


def shower(store: Path, seed: int, requests: int) -> tuple[int, int]:
    """(requests answered, the same refused)."""
    (adapter,) = load(HERE / "acme_legacy.toml").adapters
    (folder,) = Store(store).published("shop")
    runner = Runner.open(folder, "shop")
    draw = random.Random(seed)
    answered = refused = 0
    for _ in range(requests):
        message = request(draw, adapter)
        start_s = time.monotonic()
        try:
            adapter.measure(message, LIMITS)
            run_alone(Work(adapter, runner, LIMITS), message)
            answered += 1
        except TOLD:
            refused += 1
        assert time.monotonic() - start_s < 60, message
    return answered, refused


def test_2000_mutated_requests_are_answered_or_refused(store: Path) -> None:
    answered, refused = shower(store, 1, 2000)
    assert answered > 20
    assert refused > 1000


@pytest.mark.long
def test_100000_mutated_requests_are_answered_or_refused(store: Path) -> None:
    answered, refused = shower(store, 2, 100_000)
    assert answered > 1000
    assert refused > 50_000
