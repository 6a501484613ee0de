"""The tests of the GPU's kernels as `run.py` runs them: several pytest processes side by side, because most of their
time is the compilation of kernels, within a limit of time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rows import ROOT

FOLDER = "tests/kernels/gpu"
# Long files, each run as several processes: words for pytest's -k.
_PARTS = {
    "test_hard_vectors.py": ("quantize", "rescore", "item_vectors", "assign", "cluster_sums"),
    "test_ivf_search.py": ("eligible", "finds_what", "program"),
}
_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|error)")
_TAIL_LINES = 40


@dataclass(frozen=True)
class Tested:
    """unfinished: groups that the limit of time ended or kept from starting. failures: the last lines of failed
    groups."""

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
            # A process for each word, without tests of an earlier word; then one for the remaining tests.
            made += [[str(file), "-k", part + _besides(parts[:i])] for i, part in enumerate(parts)]
            made.append([str(file), "-k", "not (" + " or ".join(parts) + ")"] if parts else [str(file)])
    # Parts of long files, which have three arguments, before whole files.
    return sorted(made, key=len, reverse=True)


def _besides(parts: Sequence[str]) -> str:
    return f" and not ({' or '.join(parts)})" if parts else ""


def run_tests(paths: Sequence[str], seconds: float, processes: int, interpreted: bool) -> Tested:
    """Runs the tests within `seconds`; failures are part of the result. interpreted: by Triton's interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    if interpreted:
        environment["TRITON_INTERPRET"] = "1"
    start_s = time.monotonic()
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]

    def run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
        left_s = start_s + seconds - time.monotonic()
        if left_s <= 0:
            return None
        try:
            return subprocess.run(
                [*command, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                encoding="utf-8",
                errors="replace",
                cwd=ROOT,
                env=environment,
                timeout=left_s,
            )
        except subprocess.TimeoutExpired:
            return None

    waiting = groups(paths)
    with ThreadPoolExecutor(processes) as pool:
        runs = list(pool.map(run, waiting))
    counts: Counter[str] = Counter()
    failures = []
    for arguments, ended in zip(waiting, runs, strict=True):
        if ended is None:
            continue
        lines = ended.stdout.splitlines()
        for number, what in _COUNTS.findall(lines[-1]) if lines else []:
            counts[what] += int(number)
        # pytest's status 5: the file has no test of this name.
        if ended.returncode not in (0, 5):
            failures.append("\n".join([_named(arguments), *lines[-_TAIL_LINES:]]))
    return Tested(
        counts["passed"],
        counts["skipped"],
        counts["failed"] + counts["error"],
        round(time.monotonic() - start_s, 1),
        tuple(_named(arguments) for arguments, ended in zip(waiting, runs, strict=True) if ended is None),
        tuple(failures),
    )


def _named(arguments: Sequence[str]) -> str:
    return " ".join([Path(arguments[0]).name, *arguments[1:]])
