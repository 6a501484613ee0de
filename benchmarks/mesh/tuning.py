"""Measurements behind the mesh's settings: ways to search behind a filter, and ways to call three services in turn.

    python -m benchmarks.mesh.tuning --keep

Times are of the processor, of one thread, so that a busy machine measures alike.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import faiss
import grpc
import numpy as np

from benchmarks.arguments import arguments
from benchmarks.report import written
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.compat.mesh.nearest import Flat, dots, lists_of, use_threads
from meshfold.compat.mesh.order import best
from meshfold.compat.mesh.postings import bitmap_of, bits_of, rows_of
from meshfold.model.data.generated import item_vectors
from meshfold.model.types import Float32s

PASS_RATES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.9)
CANDIDATES = 4096
QUERIES = 20
# Share of the lists that an unfiltered search reads.
PROBED = 0.25
_METHOD = "/echo.Echo/Call"
_TELL = b"cpu"
_MESSAGE = bytes(20_000)
_CALLS = 600


def main() -> None:
    parser = arguments(__doc__, keep=True, items=60_000, dimension=128)
    # How this file runs itself as a server.
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "PORT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        _SERVERS[args.serve[0]](args.serve[1])
        return
    use_threads(1)
    rows = [*searches(args.items, args.dimension), *calls()]
    for row in rows:
        console.print(f"{row.case}: {row.figures}")
    written(rows, args.keep)


def searches(items: int, dimension: int) -> Iterator[Row]:
    """For each pass rate, ms of the ways to find the candidates among what passes."""
    vectors = np.concatenate(list(item_vectors(items, dimension)))
    random = np.random.default_rng(0)
    pairs = vectors[random.integers(0, items, (2, QUERIES))]
    queries = np.ascontiguousarray(pairs.mean(0), np.float32)
    flat = Flat(vectors)
    index = faiss.index_factory(dimension, f"IVF{lists_of(items)},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = 3
    index.train(vectors)
    index.add(vectors)
    for rate in PASS_RATES:
        passing = bitmap_of(np.flatnonzero(random.random(items) < rate).astype(np.uint32))
        bits, held = bits_of(passing, items), rows_of(passing).astype(np.int64)
        probes = min(index.nlist, round(index.nlist * PROBED / rate))
        parameters = faiss.SearchParametersIVF(nprobe=probes, sel=faiss.IDSelectorBitmap(bits))

        def one_by_one(query: Float32s, held: Any = held) -> None:
            best(held, dots(query[0], vectors, held), CANDIDATES)

        def behind_flat(query: Float32s, bits: Any = bits, held: Any = held) -> None:
            flat.search(query, CANDIDATES, bits, len(held))

        def behind_ivf(query: Float32s, parameters: Any = parameters) -> None:
            index.search(query, CANDIDATES, params=parameters)

        def set_bits(_: Float32s, passing: Any = passing) -> None:
            flags = np.zeros(items, bool)
            flags[rows_of(passing)] = True
            np.packbits(flags, bitorder="little")

        def copied_bits(_: Float32s, passing: Any = passing) -> None:
            bits_of(passing, items)

        ways = {
            "one_by_one_ms": one_by_one,
            "ivf_ms": behind_ivf,
            "flat_ms": behind_flat,
            "bits_set_ms": set_bits,
            "bits_copied_ms": copied_bits,
        }
        figures = {name: _cpu_ms(way, queries) for name, way in ways.items()}
        config = {
            "items": items,
            "dimension": dimension,
            "candidates": CANDIDATES,
            "probed": PROBED,
            "pass_rate": rate,
        }
        yield Row("mesh_tuning", f"{rate:.0%} pass", config, figures)


def _cpu_ms(way: Callable[[Float32s], None], queries: Float32s) -> float:
    way(queries[:1])
    taken = []
    for i in range(len(queries)):
        start_s = time.thread_time()
        way(queries[i : i + 1])
        taken.append(time.thread_time() - start_s)
    return statistics.median(taken) * 1e3


def calls() -> Iterator[Row]:
    """us of the processor that a call takes: of a caller's two ways to call, and of two kinds of orchestrators."""
    config = {"bytes": len(_MESSAGE), "calls": _CALLS}
    with _server("echo", "0") as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(_METHOD)
        ways: dict[str, Callable[[], object]] = {
            "a call that blocks": lambda: call(_MESSAGE, timeout=5),
            "a call's future": lambda: call.future(_MESSAGE, timeout=5).result(),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for name, way in [*ways.items()] * 3:
            way()
            start_s = time.process_time()
            for _ in range(_CALLS // 3):
                way()
            taken[name].append((time.process_time() - start_s) / (_CALLS // 3) * 1e6)
        for name, cpu in taken.items():
            yield Row("mesh_tuning", name, config, {"cpu_us": statistics.median(cpu)})
        for kind, name in (("threads", "three calls from threads"), ("aio", "three calls from asyncio")):
            yield Row("mesh_tuning", name, config, {"cpu_us": _orchestrated(kind, port)})


def _orchestrated(kind: str, port: str) -> float:
    with _server(kind, port) as own, grpc.insecure_channel(f"127.0.0.1:{own}") as channel:
        call = channel.unary_unary(_METHOD)
        cpu = []
        with ThreadPoolExecutor(8) as callers:
            for _ in range(4):
                before_s = float(call(_TELL))
                list(callers.map(lambda _: call(_MESSAGE), range(_CALLS // 4)))
                cpu.append((float(call(_TELL)) - before_s) / (_CALLS // 4) * 1e6)
    # The first round sets up what later ones find.
    return statistics.median(cpu[1:])


@contextmanager
def _server(kind: str, port: str) -> Iterator[str]:
    """A process of this file that serves; its port."""
    words = [sys.executable, "-m", "benchmarks.mesh.tuning", "--serve", kind, port]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def _handlers(answer: Any) -> list[grpc.GenericRpcHandler]:
    _, service, method = _METHOD.split("/")
    return [
        grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(answer)})
    ]


def _serve_echo(_: str) -> None:
    _serve_threads(lambda message, _: message)


def _serve_three_calls(port: str) -> None:
    call = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary(_METHOD)

    def answer(message: bytes, _: grpc.ServicerContext) -> bytes:
        if message == _TELL:
            return str(time.process_time()).encode()
        for _ in range(3):
            message = call(message, timeout=5)
        return message

    _serve_threads(answer)


def _serve_threads(answer: Callable[[bytes, grpc.ServicerContext], bytes]) -> None:
    server = grpc.server(ThreadPoolExecutor(64), handlers=_handlers(answer))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    os._exit(0)


def _serve_three_calls_aio(port: str) -> None:
    async def serve() -> None:
        call = grpc.aio.insecure_channel(f"127.0.0.1:{port}").unary_unary(_METHOD)

        async def answer(message: bytes, _: Any) -> bytes:
            if message == _TELL:
                return str(time.process_time()).encode()
            for _ in range(3):
                message = await call(message, timeout=5)
            return message

        server = grpc.aio.server()
        server.add_generic_rpc_handlers(_handlers(answer))
        port_of = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port_of, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        os._exit(0)

    asyncio.run(serve())


_SERVERS = {"echo": _serve_echo, "threads": _serve_three_calls, "aio": _serve_three_calls_aio}


if __name__ == "__main__":
    main()
