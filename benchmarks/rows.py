"""The one schema of every measured row; tables and plots are made from rows alone."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLOTS = ROOT / "benchmarks" / "plots"


@dataclass(frozen=True)
class Row:
    """name: of the benchmark. case: what was measured. config: what it ran with. figures: by name_unit."""

    name: str
    case: str
    config: Mapping[str, Any]
    figures: Mapping[str, float]
    device: str = field(default_factory=lambda: _device())
    versions: Mapping[str, str] = field(default_factory=lambda: _versions())
    commit: str = field(default_factory=lambda: _commit())
    at: str = ""


class Unfinished:
    """Rows of a run that is measured in several sittings, in a file. Those of another commit or config are not its."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self._path = path
        self._whose = {"commit": _commit(), **config}
        held = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self._cases: dict[str, list[Any]] = held["cases"] if held.get("whose") == self._whose else {}

    def rows(self, case: str, measure: Callable[[], list[Row]]) -> list[Row]:
        """Rows of an earlier sitting, or new ones."""
        if case not in self._cases:
            self._cases[case] = [asdict(row) for row in measure()]
            partial = self._path.with_suffix(".partial")
            partial.write_text(json.dumps({"whose": self._whose, "cases": self._cases}), "utf-8")
            partial.replace(self._path)
        return [Row(**row) for row in self._cases[case]]

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def write_rows(rows: Sequence[Row]) -> Path:
    """Writes the rows of one run of a benchmark to its file in benchmarks/results.

    A file keeps the newest rows of each case, config and device; git keeps those before them.
    """
    path = RESULTS / f"{rows[0].name}.jsonl"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    held = all_rows(rows[0].name) if path.exists() else []
    replaced = {_key(row) for row in rows}
    kept = [row for row in held if _key(row) not in replaced] + [replace(row, at=at) for row in rows]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(asdict(row)) + "\n" for row in kept), "utf-8")
    partial.replace(path)
    return path


def _key(row: Row) -> tuple[str, str, str]:
    return row.case, json.dumps(row.config, sort_keys=True), row.device


def all_rows(name: str) -> list[Row]:
    """The kept rows of a benchmark, oldest run first."""
    lines = (RESULTS / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [Row(**json.loads(line)) for line in lines]


def newest_rows(name: str) -> list[Row]:
    """The rows of the last run of a benchmark."""
    rows = all_rows(name)
    return [row for row in rows if row.at == rows[-1].at]


def _device() -> str:
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__}


def _commit() -> str:
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return told.stdout.strip() or "unknown"
