"""A server of the public protocols of examples/protocols, and what their clients ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.compile import Mapping, load
from tests.compat.mapped.conftest import Start

EXAMPLES = Path(__file__).resolve().parents[4] / "examples" / "protocols"
REQUESTS = Path(__file__).parent / "requests"
NAMES = ("kserve_v2", "qdrant", "vertex")
# (protocol, call) -> the answer of the server to a request's bytes.
Ask = Callable[[str, str], Any]


def captured(protocol: str, name: str) -> tuple[str, bytes]:
    """(the method, the request's bytes)."""
    method, _, message = (REQUESTS / protocol / f"{name}.bin").read_bytes().partition(b"\n")
    return method.decode(), message


@pytest.fixture(scope="session")
def mappings() -> dict[str, Mapping]:
    return {name: load(EXAMPLES / f"{name}.toml") for name in NAMES}


@pytest.fixture(scope="session")
def public_address(start: Start, store: Path) -> str:
    flags = [word for name in NAMES for word in ("--mapping", str(EXAMPLES / f"{name}.toml"))]
    return start("--store", str(store), *flags)


@pytest.fixture(scope="session")
def public(public_address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(public_address) as channel:
        yield channel


@pytest.fixture(scope="session")
def ask(public: grpc.Channel, mappings: dict[str, Mapping]) -> Ask:
    def ask(protocol: str, name: str) -> Any:
        method, message = captured(protocol, name)
        answer = public.unary_unary(method)(message, timeout=20)
        held = mappings[protocol].protocol.methods[method].output_type
        return GetMessageClass(held).FromString(answer)

    return ask
