"""`make demo-own-proto`, less its Makefile: a made-up company's protocol, from its own server to the model."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from meshfold.compat.recording.record_files import read_records

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_demonstration_ends_with_its_figures(tmp_path: Path) -> None:
    # Locust is not imported here: it replaces threads and sockets of the whole process by gevent's.
    for name in ("grpc_tools", "locust", "redis"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    words = [sys.executable, "-m", "benchmarks.own_proto.run", "--work", str(tmp_path)]
    run = subprocess.run(
        [*words, "--seconds", "2", "--rate", "15"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(run.stdout.splitlines()[-1].removeprefix("BENCH "))
    assert (figures["name"], figures["failed"]) == ("own_proto", 0)
    assert figures["requests"] > 400
    assert figures["same_ids"] >= 0.99
    # Nothing personal is in the recording, which holds every request.
    recorded = b"".join(record.SerializeToString() for record in read_records(tmp_path / "recorded"))
    assert b"GetFeed" in recorded
    for secret in (b"@example.org", b"trace-1"):
        assert secret not in recorded
