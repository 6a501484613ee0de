"""The end of a program: a table, rows in a file, and a line of BENCH."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, write_rows
from meshfold.commands import console


def show(rows: Sequence[Row], columns: Sequence[str], title: str) -> None:
    """A table of the rows, with some of their figures."""
    cells = [[row.case, *(_shown(row.figures.get(column, "")) for column in columns)] for row in rows]
    console.table(["", *columns], cells, title)


def keep(rows: Sequence[Row], kept: bool, work: Path) -> Path:
    """Writes the rows to benchmarks/results, or to a file in the work folder; returns the file."""
    if kept:
        return write_rows(rows)
    path = work / "rows.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), "utf-8")
    return path


def written(rows: Sequence[Row], kept: bool) -> None:
    """Appends the rows to benchmarks/results with --keep."""
    if kept:
        console.print(f"rows written to {write_rows(rows)}")


def bench(figures: Mapping[str, Any]) -> None:
    """Prints the last line."""
    console.print(f"BENCH {json.dumps(figures)}")


def _shown(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
