"""A call that doubles numbers: the smallest thing that answers requests, for tests of what stands before it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from meshfold.model.errors import InvalidQuery
from meshfold.model.limits import Limits
from meshfold.model.schema import Schema
from meshfold.model.types import Query, RequestSize
from meshfold.service.work import Work

LARGE = b" " * (64 << 10)


@dataclass(frozen=True)
class Number:
    value: int
    plan: int


class Numbers:
    """The adapter. A request is a number as text, and its answer the double; more than 1,000 cannot be sent."""

    METHOD = "/test.Numbers/Double"

    def __init__(self) -> None:
        self.measured_by: list[str] = []

    def measure(self, message: bytes, limits: Limits) -> RequestSize:
        self.measured_by.append(threading.current_thread().name)
        return RequestSize("shop", max_results=1, bytes=len(message))

    def decode(self, message: bytes) -> Query:
        try:
            return Query("shop", 1, user_id=int(message))
        except ValueError:
            raise InvalidQuery("request", "must be a number") from None

    def path(self, query: Query, path: str) -> str:
        return f"number.{path}"

    def encode(self, query: Query, answer: int) -> bytes:
        if answer > 1000:
            raise OverflowError("too large to be sent")
        return str(answer).encode()


class Doubler:
    """The runner. Fails at negative numbers; waits while its gate is closed; keeps the batches and its threads' names.

    A number's plan is its hundreds. step: called again and again while the gate is closed.
    """

    surface = "shop"
    version = "1"
    schema = Schema("shop", (), ("like",))

    def __init__(self, items: int = 100, candidates: int = 10) -> None:
        self.items, self.candidates = items, candidates
        self.batches: list[list[int]] = []
        self.threads: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.step: Callable[[], None] = lambda: None
        self.adapter = Numbers()
        self.work = Work(self.adapter, self, Limits())

    def prepare(self, query: Query) -> Number:
        return Number(int(query.user_id), int(query.user_id) // 100)

    def run(self, batch: Sequence[Number]) -> list[Any]:
        self.batches.append([number.value for number in batch])
        self.threads.append(threading.current_thread().name)
        self.entered.set()
        for _ in range(2000):
            self.step()
            if self.gate.wait(0.005):
                break
        else:
            raise AssertionError("the gate stayed closed")
        if min(number.value for number in batch) < 0:
            raise ValueError("negative")
        return [2 * number.value for number in batch]
