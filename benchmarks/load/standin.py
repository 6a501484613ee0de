"""A stand-in for a mesh: valid canned answers at once, after a while, or never.

    python -m benchmarks.load.standin --address 127.0.0.1:50060

A call of /standin.Control/Answer with {"delay_s": SECONDS or null, "results": N} says which from then on. It costs
little and its time is known, so that what is measured is the server in front of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from benchmarks.arguments import arguments
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb


class StandIn:
    """Calls wait where there is a delay; a new delay is in effect for those that wait, too."""

    def __init__(self) -> None:
        self._answer = b""
        self._delay_s: float | None = 0.0
        self._changed = asyncio.Event()
        self._make_answer(20)

    def _make_answer(self, results: int) -> None:
        answer = pb.RetrieveResponse(tasks=["watch"])
        for number in range(results):
            answer.candidates.add(
                item_id=number + 1, value=1 - number / results, similarity=0.5, task_scores=[0.5]
            )
        for part in ("user_tower", "index", "filter", "scoring"):
            setattr(answer.versions, part, "0" * 64)
        self._answer = answer.SerializeToString()

    async def retrieve(self, message: bytes, context: Any) -> bytes:
        del message, context
        while self._delay_s != 0:
            try:
                await asyncio.wait_for(self._changed.wait(), self._delay_s)
            except TimeoutError:
                break
        return self._answer

    async def set_answer(self, message: bytes, context: Any) -> bytes:
        del context
        told = json.loads(message)
        self._delay_s = told["delay_s"]
        self._make_answer(told["results"])
        self._changed.set()
        self._changed = asyncio.Event()
        return b""

    async def check(self, message: bytes, context: Any) -> bytes:
        del message, context
        serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        told: bytes = serving.SerializeToString()
        return told


async def serve(address: str) -> None:
    standin = StandIn()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    for service, method, answer in (
        ("mesh.v1.OrchestratorService", "Retrieve", standin.retrieve),
        ("standin.Control", "Answer", standin.set_answer),
        ("grpc.health.v1.Health", "Check", standin.check),
    ):
        handler = grpc.unary_unary_rpc_method_handler(answer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port(address)
    await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(None)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--address", required=True)
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(args.address))


if __name__ == "__main__":
    main()
