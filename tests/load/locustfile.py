"""Open-loop load on servers of mesh.v1, or of a mapped method: a mesh, a proxy or a model, one or several in one run.

    make load TARGET=127.0.0.1:50051
    make load TARGET="mesh=127.0.0.1:50060 model=127.0.0.1:50051" RATE=50 DURATION=60
    make load TARGET=127.0.0.1:50051 REQUESTS=acme.messages METHOD=/acme.recs.v1.Recommender/Recommend

Requests start at random moments of a given rate, whether earlier ones were answered or not, and their time counts from
when they should have started: a server that stalls shows it. One channel a target and process.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import gevent
import grpc
import grpc.experimental.gevent
from gevent.pool import Pool
from google.protobuf.empty_pb2 import Empty
from google.protobuf.proto import parse_length_prefixed
from locust import User, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

# Before the first channel.
grpc.experimental.gevent.init_gevent()

RETRIEVE = "/mesh.v1.OrchestratorService/Retrieve"
# Calls of one target under way; a server this far behind gets no more, and each that is not sent is a failure.
MOST_UNDER_WAY = 1000
MOST_ANSWER_BYTES = 64 << 20


class Saturated(Exception):
    """A request that was due, and not sent."""


class Caller(User):
    """Sends the requests at the rate to one target; the first user has the first target, and so on."""

    made = count()

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        options = environment.parsed_options
        assert options is not None
        targets = options.targets.split()
        label, _, self._address = targets[next(self.made) % len(targets)].rpartition("=")
        self._label = label or self._address
        self._rate_hz: float = options.rate
        self._timeout_s: float = options.timeout
        self._requests = read_requests(options.requests)
        self._random = random.Random(self._label)
        self._under_way = Pool()
        self._channel = grpc.insecure_channel(
            self._address, [("grpc.max_receive_message_length", MOST_ANSWER_BYTES)]
        )
        self._method: str = options.method
        self._ask = self._channel.unary_unary(self._method)

    def on_stop(self) -> None:
        self._under_way.join(self._timeout_s)
        self._channel.close()

    def wait(self) -> None:
        """Nothing: a run of `send` waits for the moment itself."""

    def send(self) -> None:
        """Starts one request after the other, each at its moment."""
        due_s = time.perf_counter()
        number = self._random.randrange(len(self._requests))
        while True:
            due_s += self._random.expovariate(self._rate_hz)
            gevent.sleep(max(0.0, due_s - time.perf_counter()))
            message = self._requests[number % len(self._requests)]
            number += 1
            if len(self._under_way) >= MOST_UNDER_WAY:
                self._tell(due_s, 0, Saturated(f"{MOST_UNDER_WAY} calls are under way"))
            else:
                self._under_way.spawn(self._call, message, due_s)

    tasks = [send]

    def _call(self, message: bytes, due_s: float) -> None:
        try:
            answer: bytes = self._ask(message, timeout=self._timeout_s)
        except grpc.RpcError as error:
            self._tell(due_s, 0, RuntimeError(f"{error.code().name}: {error.details()}"))
        else:
            self._tell(due_s, len(answer), None)

    def _tell(self, due_s: float, answer_bytes: int, error: Exception | None) -> None:
        self.environment.events.request.fire(
            request_type=self._method.rpartition("/")[2],
            name=self._label,
            response_time=(time.perf_counter() - due_s) * 1000,
            response_length=answer_bytes,
            exception=error,
            context={},
        )


def read_requests(path: str) -> Sequence[bytes]:
    """The messages of a file that benchmarks/mesh/traffic.py or a recording wrote, each after its length."""
    with Path(path).open("rb") as file:
        messages = []
        # A message without fields keeps the bytes of any other.
        while (request := parse_length_prefixed(Empty, file)) is not None:
            messages.append(request.SerializeToString())
    if not messages:
        raise SystemExit(f"{path} holds no requests")
    return messages


def _add_arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--targets", required=True, help="[label=]host:port, several apart by spaces")
    parser.add_argument("--requests", required=True, help="file of length-prefixed messages")
    parser.add_argument("--method", default=RETRIEVE, help="full name of the method that takes them")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second and target")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds that a call may take")


def _one_user_a_target(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    assert options is not None
    if options.rate <= 0 or options.timeout <= 0:
        raise SystemExit("--rate and --timeout must be above 0")
    targets = options.targets.split()
    if not targets:
        raise SystemExit("--targets names none: give host:port")
    options.num_users = len(targets)
    options.spawn_rate = float(len(targets))


def _fail_where_nothing_was_asked(environment: Environment, **_: Any) -> None:
    """Locust calls a run without requests a success."""
    assert environment.parsed_options is not None
    if len(environment.stats.entries) < environment.parsed_options.num_users:
        environment.process_exit_code = 1


for hook, listener in (
    (events.init_command_line_parser, _add_arguments),
    (events.init, _one_user_a_target),
    (events.quitting, _fail_where_nothing_was_asked),
):
    hook.add_listener(listener)
