"""Tables of pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.rows import Row


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> str:
    """A table of Markdown, and a paragraph below it."""
    lines = [_line(columns), "|---" * len(columns) + "|", *map(_line, rows)]
    return "\n".join([*lines, "", note] if note else lines)


def formatted(row: Row, shown: Mapping[str, str]) -> list[str]:
    """Figures of a row as text. shown: a format for each figure."""
    return [text.format(row.figures[name]) for name, text in shown.items()]


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
