"""The tests of the GPU's kernels as `run.py` runs them: several pytest processes side by side, because most
of their time is the compilation of kernels, and an end to waiting."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rows import ROOT

FOLDER = "tests/kernels/gpu"
# The longest file, as several processes.
_PARTS = {
    "test_hard_vectors.py": ("quantize", "rescore", "item_vectors", "assign", "cluster_sums"),
    "test_search.py": ("eligible", "finds_what", "program"),
}
_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|error)")
_TAIL_LINES = 40


@dataclass(frozen=True)
class Tested:
    """unfinished: groups that the clock ended. failures: what failed groups printed last."""

    passed: int
    skipped: int
    failed: int
    seconds: float
    unfinished: tuple[str, ...]
    failures: tuple[str, ...]


def groups(paths: Sequence[str]) -> list[list[str]]:
    """Arguments of pytest for each process: a file, or a part of one."""
    made: list[list[str]] = []
    for path in paths:
        for file in sorted((ROOT / path).glob("test_*.py")) if (ROOT / path).is_dir() else [ROOT / path]:
            parts = _PARTS.get(file.name, ())
            # Longest first, and last what belongs to none.
            made += [[str(file), "-k", part + _besides(parts[:i])] for i, part in enumerate(parts)]
            made.append([str(file), "-k", "not (" + " or ".join(parts) + ")"] if parts else [str(file)])
    return sorted(made, key=len, reverse=True)


def _besides(parts: Sequence[str]) -> str:
    return f" and not ({' or '.join(parts)})" if parts else ""


def run_tests(paths: Sequence[str], seconds: float, processes: int, interpreted: bool) -> Tested:
    """Raises nothing for what fails: that is told."""
    environment = dict(os.environ)
    environment.pop("TRITON_INTERPRET", None)
    if interpreted:
        environment["TRITON_INTERPRET"] = "1"
    start_s = time.monotonic()
    waiting = groups(paths)
    running: list[tuple[list[str], subprocess.Popen[bytes], Path]] = []
    counts = dict.fromkeys(("passed", "failed", "skipped", "error"), 0)
    unfinished: list[str] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            late = time.monotonic() - start_s > seconds
            while waiting and len(running) < processes and not late:
                arguments = waiting.pop(0)
                log = Path(folder) / f"{len(waiting)}.log"
                with log.open("wb") as out:
                    process = subprocess.Popen(
                        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
                        stdout=out,
                        stderr=subprocess.STDOUT,
                        cwd=ROOT,
                        env=environment,
                    )
                running.append((arguments, process, log))
            for entry in list(running):
                arguments, process, log = entry
                if process.poll() is None and late:
                    process.terminate()
                    process.wait()
                    unfinished.append(_named(arguments))
                elif process.poll() is None:
                    continue
                else:
                    lines = log.read_text("utf-8", "replace").splitlines()
                    found = _COUNTS.findall(lines[-1]) if lines else []
                    for number, what in found:
                        counts[what] += int(number)
                    # 5: no test of the file has such a name.
                    if process.returncode not in (0, 5):
                        failures.append("\n".join([_named(arguments), *lines[-_TAIL_LINES:]]))
                running.remove(entry)
            if late:
                unfinished += [_named(arguments) for arguments in waiting]
                waiting = []
            time.sleep(0.05)
    return Tested(
        counts["passed"],
        counts["skipped"],
        counts["failed"] + counts["error"],
        round(time.monotonic() - start_s, 1),
        tuple(unfinished),
        tuple(failures),
    )


def _named(arguments: Sequence[str]) -> str:
    return " ".join([Path(arguments[0]).name, *arguments[1:]])
