from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshfold.commands.__main__ import main
from meshfold.compat.client import Client
from meshfold.model.types import Query

Publish = Callable[..., Path]
Run = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run() -> Iterator[Run]:
    """(flags) -> a process of `meshfold serve`; what is left of it ends with the test."""
    processes: list[subprocess.Popen[str]] = []

    def run(*flags: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "meshfold.commands", "serve", "--address", "127.0.0.1:0", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The ready line of a server and its address."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.match(r"listening on (\S+),", line)
    assert found, line + (process.stderr.read() if process.stderr else "")
    return line, found[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_answers_until_told_to_stop(
    run: Run, tmp_path: Path, publish_items: Publish, number: signal.Signals
) -> None:
    shop = publish_items(tmp_path)
    publish_items(tmp_path, "video", generated=True)
    process = run("--store", str(tmp_path))
    line, address = ready(process)
    assert f"shop version {shop.name.rpartition('-')[2]}, video version " in line
    assert line.endswith("(generated data)\n")
    assert process.stdout is not None
    assert re.fullmatch(r"operators at 127.0.0.1:\d+\n", process.stdout.readline())
    with Client(address) as client:
        assert len(client.retrieve(Query("shop", 5)).item_ids) == 5
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_a_server_of_an_empty_store_says_how_to_publish(run: Run, tmp_path: Path) -> None:
    process = run("--store", str(tmp_path / "none"))
    line, _ = ready(process)
    assert f"nothing is published in {tmp_path / 'none'} yet" in line
    assert "meshfold build" in line


def test_a_second_server_on_the_port_is_told_so(run: Run, store: Path) -> None:
    _, address = ready(run("--store", str(store)))
    second = run("--store", str(store), "--address", address)
    _, errors = second.communicate(timeout=30)
    assert second.returncode == 1
    assert errors.splitlines()[-1].startswith(f"meshfold: cannot listen on {address}")
    third = run("--store", str(store), "--admin-address", address)
    _, errors = third.communicate(timeout=30)
    assert third.returncode == 1
    assert errors.splitlines()[-1].startswith(f"meshfold: cannot listen on {address}")
    assert errors.endswith("choose another with --admin-address\n")


def test_a_setting_that_does_not_fit_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--max-batch", "-1"]) == 1
    assert capsys.readouterr().err == "meshfold: max_batch must be at least 1, got -1\n"
