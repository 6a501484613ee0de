"""Runs a process that prints `ready`, waits for a line, prints its start time, and at its end a line of results."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from meshfold.model.errors import MeshfoldError

# Niceness of a measuring process, so that its clock is right, and of an attacking one, so that it starves no other.
FIRST, LAST = -10, 19


class ProcessFailed(MeshfoldError):
    """A process ended before its work was done."""


class Signalled:
    """A process, ready when made. result: its output file, in a temporary folder that close() deletes."""

    def __init__(self, module: str, plan: Mapping[str, Any]) -> None:
        """The module gets the path of the plan as JSON, and a path for its result. Raises ProcessFailed."""
        self._scratch = tempfile.TemporaryDirectory()
        self.result = Path(self._scratch.name) / "result.npz"
        path = Path(self._scratch.name) / "plan.json"
        path.write_text(json.dumps(plan), "utf-8")
        self._name = module
        self._process = subprocess.Popen(
            # Benchmarks are imported from the current folder; installed packages must not be.
            [
                sys.executable,
                *(["-P"] if module.startswith("meshfold.") else []),
                "-m",
                module,
                path,
                self.result,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # A terminal's signals reach only the parent, which ends this process.
            start_new_session=True,
        )
        try:
            self._line("ready")
        except ProcessFailed:
            self.close()
            raise

    def start(self) -> float:
        """Starts the work; returns its start time, on time.monotonic()'s clock."""
        stdin = _pipe(self._process.stdin)
        stdin.write("go\n")
        stdin.flush()
        return float(json.loads(self._line("{"))["begin_s"])

    def results(self) -> dict[str, Any]:
        """Waits for the end; returns the line of results."""
        results: dict[str, Any] = json.loads(self._line("{"))
        self._process.wait()
        return results

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            _pipe(pipe).close()
        self._scratch.cleanup()

    def _line(self, begin: str) -> str:
        line = _pipe(self._process.stdout).readline()
        if not line.startswith(begin):
            raise ProcessFailed(f"{self._name} failed; it said why above")
        return line


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
