"""A client of one service of the mesh for the orchestrator, whose errors name the service."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message

from meshfold.model.errors import (
    DeadlineExceeded,
    InvalidQuery,
    MeshfoldError,
    Overloaded,
    Unavailable,
    UnknownName,
)

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

# Returns whether the caller still waits.
IsActive = Callable[[], bool]

# Seconds kept of the caller's deadline, to report which service did not answer in time.
_KEPT_S = 0.005
_OPTIONS = (
    # A search of many tasks has a large answer.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Reconnects to a restarted service at once, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In spite of its name, the time limit of a connection attempt.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Web proxies must not be used for services.
    ("grpc.enable_http_proxy", 0),
    # For an address with several replicas.
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    ("grpc.service_config_disable_resolution", 1),
)


class Part(Generic[Request, Response]):
    """One method of one service. timeout_s: time limit of an answer, where the caller's deadline is later."""

    def __init__(
        self, name: str, address: str, method: str, response: type[Response], timeout_s: float
    ) -> None:
        self._name = name
        self._address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, _OPTIONS)
        self._call = self._channel.unary_unary(
            method,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response.FromString,
        )

    def __call__(self, request: Request, deadline_s: float, is_active: IsActive) -> Response:
        """Calls the service. deadline_s: on time.monotonic()'s clock; inf for none.

        Raises the service's errors of the caller and of load, Unavailable or DeadlineExceeded with the name of a
        service that does not answer, CancelledError where the caller has left.
        """
        if not is_active():
            raise CancelledError
        timeout_s = self._timeout_s
        if deadline_s < math.inf:
            timeout_s = min(timeout_s, deadline_s - time.monotonic() - _KEPT_S)
        if timeout_s <= 0:
            raise DeadlineExceeded(f"the deadline passed before {self._name} was asked")
        # A blocking call takes half the time of a call with a future, though it cannot be cancelled (docs/mesh.md).
        try:
            response: Response = self._call(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._own(error.code(), error.details() or "", timeout_s) from None
        return response

    def _own(self, code: grpc.StatusCode, details: str, timeout_s: float) -> MeshfoldError:
        who = f"{self._name} at {self._address}"
        match code:
            case grpc.StatusCode.INVALID_ARGUMENT:
                path, _, message = details.partition(": ")
                return InvalidQuery(path, message)
            case grpc.StatusCode.NOT_FOUND:
                return UnknownName(details)
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return Overloaded(f"{who}: {details}")
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return DeadlineExceeded(f"{who} did not answer within {timeout_s:.3g} s")
            case grpc.StatusCode.UNAVAILABLE:
                return Unavailable(f"{who} is unavailable: {details}")
        return Unavailable(f"{who} failed: {code.name}: {details}")

    def close(self) -> None:
        self._channel.close()
