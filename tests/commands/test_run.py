"""`meshfold run` as a newcomer types it: a real process, from data to an answer."""

import re
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshfold.commands import run
from meshfold.commands.__main__ import main
from meshfold.model.train.kept_model import KeptModel

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@contextmanager
def running(*words: str) -> Iterator[str]:
    """What it prints up to the query to try, while it serves."""
    command = [sys.executable, "-m", "meshfold.commands", "run", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("  "):
                break
        assert said, process.communicate()
        yield said
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors


def test_a_shop_is_trained_built_and_served_and_the_query_to_try_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(
        "--data", str(EXAMPLES / "shop"), "--work", str(tmp_path), "--address", "127.0.0.1:0"
    ) as said:
        address = re.search(r"listening on (\S+), serving shop version", said)
        assert address is not None, said
        assert "over_arch, index" in said
        tried = shlex.split(said.splitlines()[-1])[1:]
        tried[tried.index("--address") + 1] = address[1]
        assert main([*tried, "--max-results", "3"]) == 0
        assert "3 results from version" in capsys.readouterr().out
        # The caller of the example has none of our stubs: it learns the protocol by reflection.
        runpy.run_path(str(EXAMPLES / "caller.py"))["main"](address[1])
        answer = capsys.readouterr().out
        assert len(answer.splitlines()) == 6
        assert "version" in answer


def test_data_of_a_handful_of_users_is_served_too(tiny_movielens: Path, tmp_path: Path) -> None:
    with running("--data", str(tiny_movielens), "--work", str(tmp_path), "--address", "127.0.0.1:0") as said:
        assert "serving movies version" in said


def test_data_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--data", str(tmp_path / "nothing"), "--work", str(tmp_path)]) == 1
    assert f"{tmp_path / 'nothing'}: no such file or folder" in capsys.readouterr().err


def test_a_model_that_was_kept_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    run.tell(KeptModel(Path("home/model"), None))
    assert capsys.readouterr().out.startswith(
        "home/model: kept from before; data, settings and version are the"
    )
