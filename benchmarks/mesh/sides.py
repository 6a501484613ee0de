"""Both sides as processes: the mesh that is replaced, and the model that replaces it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from meshfold.compat.mesh_v1 import retrieve
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

TIMEOUT_S = 60.0
_COMMAND = [sys.executable, "-P", "-m", "meshfold.commands"]

# A request -> its answer.
Retrieve = Callable[[pb.RetrieveRequest], pb.RetrieveResponse]


@contextmanager
def mesh_up(store: Path, *flags: str) -> Iterator[dict[str, Any]]:
    """What `meshfold mesh up --json` tells of the four services, by name."""
    with _process("mesh", "up", f"--store={store}", "--address=127.0.0.1:0", "--json", *flags) as line:
        yield json.loads(line)


@contextmanager
def model_up(store: Path, *flags: str) -> Iterator[str]:
    """The address of a `meshfold serve`."""
    with _process("serve", f"--store={store}", "--address=127.0.0.1:0", *flags) as line:
        yield line.removeprefix("listening on ").partition(",")[0]


@contextmanager
def caller(address: str) -> Iterator[Retrieve]:
    """The orchestrator's call at an address."""
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options) as channel:
        call = channel.unary_unary(
            retrieve.METHOD,
            request_serializer=pb.RetrieveRequest.SerializeToString,
            response_deserializer=pb.RetrieveResponse.FromString,
        )
        yield lambda request: call(request, timeout=TIMEOUT_S)


@contextmanager
def _process(*words: str) -> Iterator[str]:
    """The first line that a process prints; stopped at the end; what it said is told where it failed."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([*_COMMAND, *words], stdout=subprocess.PIPE, stderr=said, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if line:
                yield line
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()
            if process.returncode != 0:
                said.seek(0)
                print(
                    f"meshfold {' '.join(words)} ended with status {process.returncode}:\n{said.read()}",
                    file=sys.stderr,
                )
        if not line:
            raise SystemExit(f"meshfold {' '.join(words)} did not start")
