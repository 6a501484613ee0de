from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from meshfold.commands.__main__ import main
from meshfold.compat.mesh_v1 import retrieve
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

Up = Callable[..., subprocess.Popen[str]]
NAMES = ["orchestrator", "tower", "retrieval", "scoring"]


@pytest.fixture
def up(store: Path, tmp_path: Path) -> Iterator[Up]:
    """(flags) -> a process of `meshfold mesh up` in front of the shop."""
    processes: list[subprocess.Popen[str]] = []

    def up(*flags: str) -> subprocess.Popen[str]:
        words = [
            "mesh",
            "up",
            "--store",
            str(store),
            "--address",
            "127.0.0.1:0",
            "--indices",
            str(tmp_path / "i"),
        ]
        process = subprocess.Popen(
            [sys.executable, "-m", "meshfold.commands", *words, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        processes.append(process)
        return process

    yield up
    for process in processes:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdout.readline() or process.stderr.read()


def ask(address: str) -> pb.RetrieveResponse:
    request = pb.RetrieveRequest(max_results=5)
    with grpc.insecure_channel(address) as channel:
        answer = channel.unary_unary(retrieve.METHOD)(request.SerializeToString(), timeout=30)
    response: pb.RetrieveResponse = pb.RetrieveResponse.FromString(answer)
    return response


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_all_four_start_show_themselves_and_stop_together(up: Up) -> None:
    process = up("--surface", "shop")
    lines = [line_of(process) for _ in NAMES]
    shown = [re.match(r"(\w+) +(\S+) +pid (\d+), serving shop version \w{12}$", line) for line in lines]
    assert [found and found[1] for found in shown] == NAMES, lines
    assert shown[0] is not None
    assert len(ask(shown[0][2]).candidates) == 5
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "Fatal" not in errors
    assert not any(alive(int(found[3])) for found in shown if found)


def test_where_one_dies_it_is_named_and_the_others_stop(up: Up) -> None:
    process = up("--json", "--exact")
    told = json.loads(line_of(process))
    assert list(told) == NAMES
    assert len(ask(told["orchestrator"]["address"]).candidates) == 5
    os.kill(told["retrieval"]["pid"], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == "meshfold: retrieval was killed by SIGKILL, so the mesh is stopped"
    assert not any(alive(service["pid"]) for service in told.values())


def test_without_a_snapshot_nothing_is_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mesh", "up", "--store", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == (
        f"meshfold: {tmp_path / 'none'}: holds no snapshot; publish one with `meshfold build`\n"
    )


def test_an_orchestrator_needs_the_others(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mesh", "run", "orchestrator", "--store", str(store), "--tower", "localhost:1"]) == 1
    assert capsys.readouterr().err == (
        "meshfold: an orchestrator needs the addresses of the others: --retrieval and --scoring\n"
    )


def test_a_setting_that_does_not_fit_is_told_before_anything_starts(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mesh", "up", "--store", str(store), "--threads", "0"]) == 1
    assert capsys.readouterr().err == "meshfold: threads must be at least 1, got 0\n"


@pytest.mark.parametrize("setting", ["adapter", "copies", "hydrate", "mapping", "max-batch", "mesh", "state"])
def test_settings_of_the_model_alone_are_not_offered(
    capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["mesh", "run", "tower", f"--{setting}", "x"])
    assert f"--{setting}" in capsys.readouterr().err
