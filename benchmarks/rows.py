"""The one schema of every measured row; tables and plots are made from rows alone."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


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


def write_rows(rows: Sequence[Row]) -> Path:
    """Appends the rows of one run of a benchmark to its file in benchmarks/results."""
    path = RESULTS / f"{rows[0].name}.jsonl"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(replace(row, at=at))) + "\n" for row in rows)
    return path


def newest_rows(name: str) -> list[Row]:
    """The rows of the last run of a benchmark."""
    rows = [Row(**json.loads(line)) for line in (RESULTS / f"{name}.jsonl").read_text("utf-8").splitlines()]
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
        cwd=RESULTS.parent,
        check=False,
    )
    return told.stdout.strip() or "unknown"
