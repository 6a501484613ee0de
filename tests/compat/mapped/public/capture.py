"""Requests of official clients as they are on the wire: METHOD and bytes of each call, in files.

    python -m tests.compat.mapped.public.capture FOLDER

Each file is PROTOCOL/CALL.bin: the method's full name, a line feed, then the request's bytes.
"""

from __future__ import annotations

import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from tests.compat.mapped.public.client_calls import PROTOCOLS


def main(folder: Path) -> None:
    asked: list[tuple[str, bytes]] = []

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            def answer(message: bytes, _: Any) -> bytes:
                asked.append((details.method, message))
                return b""

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(2), handlers=(Handler(),), options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    for protocol, calls in PROTOCOLS.items():
        (folder / protocol).mkdir(parents=True, exist_ok=True)
        for name, call in calls.items():
            asked.clear()
            # The client may not like the empty answer.
            with contextlib.suppress(Exception):
                call(f"127.0.0.1:{port}")
            ((method, message),) = asked
            (folder / protocol / f"{name}.bin").write_bytes(f"{method}\n".encode() + message)
    server.stop(None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
