"""Health checks and reflection, where their packages are installed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import grpc

from meshfold.model.errors import InvalidQuery, UnknownName
from meshfold.service.call import Answer, Call
from meshfold.service.intake import Intake
from meshfold.service.protocols import Pools

_log = logging.getLogger(__name__)

# Seconds after which a watch ends, and seconds that a watcher has to read a change.
_WATCH_S, _WRITE_S = 3600.0, 10.0


class Health:
    """The service grpc.health.v1.Health. All methods, set() and stop() included, run on the loop."""

    SERVICE = "grpc.health.v1.Health"

    def __init__(self) -> None:
        """Raises ImportError where the package is missing."""
        from grpc_health.v1 import health_pb2

        self._pb = health_pb2
        self._serving: dict[str, bool] = {}
        self._changed = asyncio.Event()
        self._is_stopped = False

    @property
    def answers(self) -> dict[str, Answer]:
        return {f"/{self.SERVICE}/Check": self._check}

    def streams(self, intake: Intake) -> grpc.GenericRpcHandler:
        async def watch(_: Any, context: Any) -> None:
            await self._watch(await intake.read(context), context)

        handler = grpc.stream_stream_rpc_method_handler(watch)
        return grpc.method_handlers_generic_handler(self.SERVICE, {"Watch": handler})

    def set(self, serving: Mapping[str, bool]) -> None:
        """Sets whether each service serves. Does nothing after stop()."""
        if not self._is_stopped:
            self._serving |= serving
            self._tell()

    def stop(self) -> None:
        """Reports every service as not serving from now on."""
        self._is_stopped = True
        self._serving = dict.fromkeys(self._serving, False)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _check(self, call: Call) -> bytes:
        service = self._service(call.message)
        if service not in self._serving:
            raise UnknownName(f"no service {service!r} is here")
        return self._response(service)

    async def _watch(self, message: bytes, context: Any) -> None:
        """Sends each change. Ends after _WATCH_S, or where the caller reads too slowly; callers then watch again."""
        try:
            service = self._service(message)
        except InvalidQuery as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        sent = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(_WATCH_S):
                while True:
                    changed = self._changed
                    if (response := self._response(service)) != sent:
                        async with asyncio.timeout(_WRITE_S):
                            await context.write(response)
                        sent = response
                    await changed.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the watch is over; watch again")

    def _service(self, message: bytes) -> str:
        """The service named by a health request. Raises InvalidQuery."""
        from google.protobuf.message import DecodeError

        try:
            service: str = self._pb.HealthCheckRequest.FromString(message).service
        except DecodeError:
            raise InvalidQuery("request", "the bytes are not a grpc.health.v1.HealthCheckRequest") from None
        return service

    def _response(self, service: str) -> bytes:
        response = self._pb.HealthCheckResponse
        status = response.SERVICE_UNKNOWN
        if service in self._serving:
            status = response.SERVING if self._serving[service] else response.NOT_SERVING
        message: bytes = response(status=status).SerializeToString()
        return message


def health() -> Health | None:
    try:
        return Health()
    except ImportError:
        _log.warning("health checks are off: pip install grpcio-health-checking")
        return None


def handlers(
    intake: Intake, services: Sequence[str], shown: Health | None, pools: Sequence[Any] = ()
) -> list[grpc.GenericRpcHandler]:
    """Handlers of health checks and reflection. pools: descriptor pools besides the process's own."""
    found: list[grpc.GenericRpcHandler] = []
    names = list(services)
    if shown is not None:
        names.append(shown.SERVICE)
        found += [*intake.unary(shown.answers), intake.streams(shown.streams(intake))]
    found += [intake.streams(handler) for handler in _reflection(names, pools)]
    return found


def _reflection(services: Sequence[str], pools: Sequence[Any]) -> list[grpc.GenericRpcHandler]:
    try:
        from grpc_reflection.v1alpha import reflection, reflection_pb2
    except ImportError:
        _log.warning("reflection is off: pip install grpcio-reflection grpcio-health-checking")
        return []
    # Version v1 of reflection has the messages of v1alpha under another service name.
    names = (reflection.SERVICE_NAME, reflection.SERVICE_NAME.replace("v1alpha", "v1"))
    servicer: Any = reflection.aio.ReflectionServicer((*services, *names), Pools(pools))
    info = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": info}) for name in names]
