"""How programs end: a table, rows in a file, and a line of BENCH."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, write_rows
from meshfold.commands import console


def show(rows: Sequence[Row], columns: Sequence[str], title: str) -> None:
    """Some of the rows' figures, a line a row."""
    cells = [[row.case, *(_shown(row.figures.get(column, "")) for column in columns)] for row in rows]
    console.table(["", *columns], cells, title)


def keep(rows: Sequence[Row], kept: bool, work: Path) -> Path:
    """Where the rows were written: in benchmarks/results, or alone in the work folder."""
    if kept:
        return write_rows(rows)
    path = work / "rows.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), "utf-8")
    return path


def bench(figures: Mapping[str, Any]) -> None:
    """The last line."""
    console.print(f"BENCH {json.dumps(figures)}")


def _shown(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
