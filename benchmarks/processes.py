"""Commands of ours as processes: run to their end, or started, waited for and stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meshfold.commands import console

# What a command line of ours begins with.
MESHFOLD = (sys.executable, "-P", "-m", "meshfold.commands")
STOP_S = 60.0


def command(*words: str | Path | float) -> str:
    """What a command of ours prints. Ends the program where the command fails, which says why."""
    run = subprocess.run([*MESHFOLD, *map(str, words)], check=False, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise SystemExit(f"`meshfold {' '.join(map(str, words))}` ended with status {run.returncode}")
    return run.stdout


@contextmanager
def running(arguments: Sequence[str | Path], ready: str, log: Path) -> Iterator[str]:
    """A command of ours until the block ends: its output up to the first line that holds `ready`. log: its errors."""
    with log.open("w") as errors:
        process = subprocess.Popen([*MESHFOLD, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            yield _said(process, arguments, ready, log)
        finally:
            process.terminate()
            with console.progress() as progress:
                progress(f"stopping meshfold {arguments[0]}", 0, 1)
                process.wait(STOP_S)


@contextmanager
def mesh_up(store: Path, log: Path, *flags: str | Path) -> Iterator[dict[str, Any]]:
    """What `meshfold mesh up --json` tells of the four services, by name."""
    words = ["mesh", "up", "--store", store, "--address", "127.0.0.1:0", "--json", *flags]
    with running(words, "{", log) as said:
        yield json.loads(said.splitlines()[-1])


@contextmanager
def serving(flags: Sequence[str | Path], log: Path) -> Iterator[tuple[str, str]]:
    """The addresses of a `meshfold serve`: for callers, for operators."""
    with running(["serve", "--address", "127.0.0.1:0", *flags], "operators at ", log) as said:
        print(said.strip())
        callers, operators = said.split("listening on ")[1].split("operators at ")
        yield callers.split(",")[0].strip(), operators.strip()


def _said(process: subprocess.Popen[str], arguments: Sequence[str | Path], ready: str, log: Path) -> str:
    """What the command prints, up to the line that holds `ready`."""
    assert process.stdout is not None
    said = ""
    with console.progress() as progress:
        progress(f"starting meshfold {arguments[0]}", 0, 1)
        for line in process.stdout:
            said += line
            if ready in line:
                return said
    raise SystemExit(f"`meshfold {arguments[0]}` ended before it was ready; see {log}")
