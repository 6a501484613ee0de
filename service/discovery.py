"""What every server says of itself: health checks and reflection, where their packages are installed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from meshfold.model.errors import InvalidQuery, UnknownName
from meshfold.service.call import Answer, Call
from meshfold.service.intake import Intake

_log = logging.getLogger(__name__)


class Health:
    """grpc.health.v1.Health. All methods are the loop's, set and stop included."""

    SERVICE = "grpc.health.v1.Health"

    def __init__(self) -> None:
        """Raises ImportError where the package is missing."""
        from grpc_health.v1 import health, health_pb2

        self._pb = health_pb2
        self._watched = health.aio.HealthServicer()
        self._serving: dict[str, bool] = {}

    @property
    def answers(self) -> dict[str, Answer]:
        return {f"/{self.SERVICE}/Check": self._check}

    @property
    def streams(self) -> grpc.GenericRpcHandler:
        watch = grpc.unary_stream_rpc_method_handler(
            self._watched.Watch,
            request_deserializer=self._pb.HealthCheckRequest.FromString,
            response_serializer=self._pb.HealthCheckResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(self.SERVICE, {"Watch": watch})

    async def set(self, serving: Mapping[str, bool]) -> None:
        """serving: by service."""
        self._serving |= serving
        response = self._pb.HealthCheckResponse
        for service, is_serving in serving.items():
            await self._watched.set(service, response.SERVING if is_serving else response.NOT_SERVING)

    async def stop(self) -> None:
        """Serves nothing from now on."""
        self._serving = dict.fromkeys(self._serving, False)
        await self._watched.enter_graceful_shutdown()

    async def _check(self, call: Call) -> bytes:
        from google.protobuf.message import DecodeError

        try:
            service = self._pb.HealthCheckRequest.FromString(call.message).service
        except DecodeError:
            raise InvalidQuery("request", "the bytes are not a grpc.health.v1.HealthCheckRequest") from None
        if service not in self._serving:
            raise UnknownName(f"no service {service!r} is here")
        response = self._pb.HealthCheckResponse
        status = response.SERVING if self._serving[service] else response.NOT_SERVING
        message: bytes = response(status=status).SerializeToString()
        return message


def health() -> Health | None:
    try:
        return Health()
    except ImportError:
        _log.warning("health checks are off: pip install grpcio-health-checking")
        return None


def handlers(intake: Intake, services: Sequence[str], shown: Health | None) -> list[grpc.GenericRpcHandler]:
    """Of the health checks and of the reflection of these services."""
    found: list[grpc.GenericRpcHandler] = []
    names = list(services)
    if shown is not None:
        names.append(shown.SERVICE)
        found += [*intake.unary(shown.answers), intake.streams(shown.streams)]
    found += [intake.streams(handler) for handler in _reflection(names)]
    return found


def _reflection(services: Sequence[str]) -> list[grpc.GenericRpcHandler]:
    try:
        from grpc_reflection.v1alpha import reflection, reflection_pb2
    except ImportError:
        _log.warning("reflection is off: pip install grpcio-reflection grpcio-health-checking")
        return []
    # Version 1 has the messages of v1alpha under another name.
    names = (reflection.SERVICE_NAME, reflection.SERVICE_NAME.replace("v1alpha", "v1"))
    servicer: Any = reflection.aio.ReflectionServicer((*services, *names))
    info = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": info}) for name in names]
