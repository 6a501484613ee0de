"""A gRPC server with nothing but what those who operate a server ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc

from meshfold.service.errors import status_of


@contextmanager
def serving(answers: Mapping[str, Callable[[bytes, Any], bytes]]) -> Iterator[str]:
    """Serves the answers by their full names, and gives the address."""
    server = grpc.server(ThreadPoolExecutor(4))
    for name, answer in answers.items():
        _, service, method = name.split("/")
        handler = grpc.unary_unary_rpc_method_handler(partial(_answered, answer))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def _answered(answer: Callable[[bytes, Any], bytes], message: bytes, context: grpc.ServicerContext) -> bytes:
    try:
        return answer(message, context)
    except Exception as error:
        context.abort(*status_of(error))
        raise
