"""Commands as processes: run to their end, or started, waited for and stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meshfold.commands import console

# First words of every command line of meshfold.
MESHFOLD = (sys.executable, "-P", "-m", "meshfold.commands")
STOP_S = 60.0


def command(*words: str | Path | float) -> str:
    """Runs a command; returns its output. Raises SystemExit after a failure, which the command explains."""
    run = subprocess.run([*MESHFOLD, *map(str, words)], check=False, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise SystemExit(f"`meshfold {' '.join(map(str, words))}` ended with status {run.returncode}")
    return run.stdout


@contextmanager
def running(
    arguments: Sequence[str | Path],
    ready: str,
    log: Path,
    program: Sequence[str] = MESHFOLD,
    is_killed: bool = False,
) -> Iterator[str]:
    """A process until the block ends: its output up to the first line with `ready`. log: of its errors.

    is_killed: whether it ends by SIGKILL, for services that keep nothing.
    """
    name, pipe = f"{program[-1]} {arguments[0]}", subprocess.PIPE
    words = [*program, *arguments]
    with (
        log.open("w") as errors,
        # Services with --attached end with their standard input, also after a kill of this process.
        subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=errors, text=True) as process,
    ):
        try:
            yield _said(process, name, ready, log)
        finally:
            (process.kill if is_killed else process.terminate)()
            with console.progress() as progress:
                progress(f"stopping {name}", 0, 1)
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


@contextmanager
def mesh_up(store: Path, log: Path, *flags: str | Path) -> Iterator[dict[str, Any]]:
    """The output of `meshfold mesh up --json`: facts of the four services, by name."""
    words = ["mesh", "up", "--store", store, "--address", "127.0.0.1:0", "--json", *flags]
    with running(words, "{", log) as said:
        yield json.loads(said.splitlines()[-1])


@contextmanager
def serving(flags: Sequence[str | Path], log: Path) -> Iterator[tuple[str, str]]:
    """The addresses of a `meshfold serve`: (for callers, for operators)."""
    with running(["serve", "--address", "127.0.0.1:0", *flags], "operators at ", log) as said:
        print(said.strip())
        callers, operators = said.split("listening on ")[1].split("operators at ")
        yield callers.split(",")[0].strip(), operators.strip()


def _said(process: subprocess.Popen[str], name: str, ready: str, log: Path) -> str:
    """The output up to the line with `ready`."""
    assert process.stdout is not None
    said = ""
    with console.progress() as progress:
        progress(f"starting {name}", 0, 1)
        for line in process.stdout:
            said += line
            if ready in line:
                return said
    raise SystemExit(f"{name} ended before it was ready; see {log}")
