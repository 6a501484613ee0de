"""The gRPC server around one store of snapshots."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from meshfold.kernels.tuning import Tuning, read_tuning, use
from meshfold.model.errors import InvalidConfig
from meshfold.model.limits import Limits
from meshfold.model.store import Store
from meshfold.service import console
from meshfold.service.batcher import Batcher
from meshfold.service.config import ServerConfig
from meshfold.service.handlers import Adapter, Answer, Handler, generic_handlers, split_method
from meshfold.service.migration import ConnectFront, Front, Sample
from meshfold.service.runner import Runner, devices_of
from meshfold.service.versions import Versions

if TYPE_CHECKING:
    from meshfold.service.metrics import Metrics

_log = logging.getLogger(__name__)

# Calls that wait for a thread, in multiples of the threads; gRPC refuses more.
_CALLS_PER_THREAD = 8
# Threads for health checks and for switching modes.
_OPERATORS = 4
# Without calls for so long, a server that is to stop has none on their way.
_QUIET_S = 0.1


class Server:
    """Listens from the moment it is made; answers from start() to stop()."""

    def __init__(
        self,
        config: ServerConfig,
        adapters: Sequence[Adapter[Any, Any]],
        connect_front: ConnectFront | None = None,
        *,
        open_runner: Callable[[Path, str], Any] | None = None,
        handler: Callable[[Adapter[Any, Any], Versions, Batcher, Limits], Answer] = Handler,
        surface: str = "",
        threads: int = 1,
    ) -> None:
        """connect_front: what stands in front of the mesh that the settings name. open_runner: (folder, surface) ->
        what answers; None for the whole model. handler: makes the answers of an adapter. surface: the only one to
        serve; "" for all of the store. threads: that run batches.

        Raises InvalidConfig where the address cannot be listened on, the device is not here, or a file that settings
        name cannot be read.
        """
        self._config = config
        devices_of(config.device)
        if config.tuning:
            use(_tuning(Path(config.tuning)))
        self._services = [split_method(adapter.METHOD)[0] for adapter in adapters]
        self._batcher = Batcher(config.max_batch, config.queue_limit, threads)
        self._versions = Versions(
            Store(config.store, only=surface),
            open_runner or partial(_open_runner, config),
            config.poll_interval_s,
            self._show_health,
        )
        answers: dict[str, Answer] = {
            adapter.METHOD: handler(adapter, self._versions, self._batcher, config.limits)
            for adapter in adapters
        }
        self._metrics = self._own_metrics() if config.metrics_address else None
        observers = () if self._metrics is None else (self._metrics,)
        self._front: Front | None = None
        if config.mesh and connect_front is not None:
            try:
                self._front = connect_front(config, answers, lambda: self._versions.runners, observers)
            except InvalidConfig:
                self._batcher.stop(0)
                raise
            answers.update(self._front.answers)
        operations = {} if self._front is None else self._front.operations
        # Whoever operates the server finds a thread though every other waits for a mesh that hangs.
        self._operators = ThreadPoolExecutor(_OPERATORS, "meshfold-operator")
        self._grpc = grpc.server(
            ThreadPoolExecutor(config.handler_threads, "meshfold-handler"),
            handlers=[*generic_handlers(answers), *generic_handlers(operations, self._operators)],
            # Without SO_REUSEPORT a second server on the port is an error, not half of the calls.
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", -1),
            ],
            maximum_concurrent_rpcs=config.handler_threads * _CALLS_PER_THREAD,
        )
        self._health = _add_health(self._grpc, self._operators)
        _add_reflection(self._grpc, sorted({split_method(name)[0] for name in (*answers, *operations)}))
        self._show_health()
        self.address = self._listen()
        self.metrics_address = ""
        if self._metrics is not None:
            try:
                self.metrics_address = self._metrics.listen(config.metrics_address)
            except InvalidConfig:
                self._grpc.stop(None)
                self._batcher.stop(0)
                raise

    @property
    def runners(self) -> Mapping[str, Runner]:
        """What is served, by surface."""
        return self._versions.runners

    @property
    def has_front(self) -> bool:
        """Whether it stands in front of a mesh."""
        return self._front is not None

    def start(self) -> None:
        """Loads what is published, then answers."""
        self._versions.start()
        if self._front is not None:
            self._front.start()
        self._grpc.start()

    def stop(self) -> None:
        """Sends callers elsewhere, ends the calls in flight, all within the grace; cancels the rest."""
        grace_s = self._config.shutdown_grace_s
        end_s = time.monotonic() + grace_s
        if self._health is not None:
            self._health.enter_graceful_shutdown()
        # A stop cancels calls that gRPC has but has not handed over yet, so it comes when none arrive any
        # more; callers that go on calling get half of the grace.
        while self._quiet_s() < _QUIET_S and time.monotonic() < end_s - grace_s / 2:
            time.sleep(_QUIET_S / 5)
        self._grpc.stop(max(0.0, end_s - time.monotonic())).wait()
        self._operators.shutdown(wait=False)
        if self._front is not None:
            self._front.stop(max(0.0, end_s - time.monotonic()))
        self._batcher.stop(0)
        self._versions.stop(max(0.0, end_s - time.monotonic()))
        if self._metrics is not None:
            self._metrics.stop()

    def _quiet_s(self) -> float:
        front_s = math.inf if self._front is None else self._front.quiet_s()
        return min(self._batcher.quiet_s(), front_s)

    def _own_metrics(self) -> Metrics:
        from meshfold.service.metrics import Gauge, Metrics

        def samples() -> Iterator[Sample]:
            yield Gauge("meshfold_batch_queue", "Requests that wait for the model.", self._batcher.waiting())
            for surface, runner in self._versions.runners.items():
                labels = {"surface": surface, "version": runner.version[:12]}
                yield Gauge("meshfold_served", "1 for the version of each surface that is served.", 1, labels)
            if self._front is not None:
                yield from self._front.samples()

        metrics = Metrics()
        metrics.ask(samples)
        return metrics

    def _listen(self) -> str:
        """The address with the port that was bound."""
        address = self._config.address
        try:
            port = self._grpc.add_insecure_port(address)
        except RuntimeError:
            port = 0
        if port == 0:
            self._batcher.stop(0)
            raise InvalidConfig(
                f"cannot listen on {address}: the port is in use, or the host is not of this machine; "
                "stop the other server or choose another with --address"
            )
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    def _show_health(self) -> None:
        if self._health is None:
            return
        from grpc_health.v1 import health_pb2

        response = health_pb2.HealthCheckResponse
        status = response.SERVING if self._versions.runners else response.NOT_SERVING
        # With a mesh behind it a server answers before anything is published.
        fronted = () if self._front is None else ("", *self._front.services)
        for service in ("", *self._services, *fronted):
            self._health.set(service, response.SERVING if service in fronted else status)


def _open_runner(config: ServerConfig, folder: Path, surface: str) -> Runner:
    with console.progress() as progress:
        return Runner.open(
            folder,
            surface,
            config.device,
            config.residuals,
            config.max_batch,
            config.cuda_graphs,
            progress,
        )


def _tuning(file: Path) -> Tuning:
    try:
        return read_tuning(file)
    except OSError as error:
        raise InvalidConfig(f"the tuning file {file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidConfig(f"{error}; `meshfold tune --store STORE --out FILE` writes one") from None


def _add_health(server: grpc.Server, threads: ThreadPoolExecutor) -> Any | None:
    """threads: that answer checks."""
    try:
        from grpc_health.v1 import health, health_pb2_grpc
    except ImportError:
        _log.warning("health checks are off: pip install grpcio-health-checking")
        return None

    class Servicer(health.HealthServicer):  # type: ignore[misc]
        def Check(self, request: Any, context: Any) -> Any:
            return super().Check(request, context)

    Servicer.Check.experimental_thread_pool = threads  # type: ignore[attr-defined]
    servicer = Servicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return servicer


def _add_reflection(server: grpc.Server, services: Sequence[str]) -> None:
    try:
        from grpc_health.v1 import health
        from grpc_reflection.v1alpha import reflection
    except ImportError:
        _log.warning("reflection is off: pip install grpcio-reflection grpcio-health-checking")
        return
    names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
