from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from meshfold.commands.__main__ import main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"meshfold {version('meshfold')}\n"


@pytest.mark.parametrize("argv", [[], ["serv"], ["serve", "--no-such-flag"]])
def test_no_command_line_of_ours_is_a_usage_error(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


HELP = """
import sys
from meshfold.commands.__main__ import main
try:
    main(["--help"])
finally:
    print(sorted({"torch", "pyarrow", "scipy", "celpy", "rich"} & set(sys.modules)))
"""


def test_help_imports_nothing_heavy() -> None:
    run = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    for command in ("data", "vectors", "build", "inspect", "evaluate", "serve", "query", "run", "mesh"):
        assert f"\n    {command} " in run.stdout
    assert run.stdout.splitlines()[-1] == "[]"


WAITING = """
import os, sys
from meshfold.commands.__main__ import main
main(["inspect", "/nowhere"])
print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "None 2000"),
        ({"GOMP_SPINCOUNT": "7"}, "None 7"),
        ({"OMP_WAIT_POLICY": "active"}, "active None"),
    ],
)
def test_threads_that_wait_sleep_unless_told_otherwise(given: dict[str, str], told: str) -> None:
    environ = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    } | given
    run = subprocess.run(
        [sys.executable, "-c", WAITING], capture_output=True, text=True, check=True, env=environ
    )
    assert run.stdout == f"{told} True\n"


def test_a_level_of_the_kernels_that_no_one_knows_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MESHFOLD_KERNELS", "sse")
    assert main(["inspect", "/nowhere"]) == 1
    told = "meshfold: MESHFOLD_KERNELS must be one of reference, plain, avx2, avx512, got 'sse'\n"
    assert capsys.readouterr().err == told


def test_a_reader_that_has_enough_is_no_traceback() -> None:
    command = f"{sys.executable} -m meshfold.commands serve --help | head -n 1"
    run = subprocess.run(
        command, shell=True, capture_output=True, text=True, env={**os.environ, "PYTHONSAFEPATH": "1"}
    )
    assert "Traceback" not in run.stderr
    assert run.stdout.startswith("usage: meshfold serve")


def test_output_to_a_full_disk_is_one_line(tmp_path: Path) -> None:
    words = [
        "data",
        "generated",
        "--items",
        "10",
        "--users",
        "3",
        "--dimension",
        "8",
        "--out",
        str(tmp_path / "data"),
    ]
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            [sys.executable, "-m", "meshfold.commands", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (run.returncode, run.stderr) == (1, "meshfold: [Errno 28] No space left on device\n")
