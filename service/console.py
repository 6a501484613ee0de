"""What commands show to people: answers on stdout, progress on stderr."""

from __future__ import annotations

import builtins
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from meshfold.model.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

# What is over sooner shows nothing.
_PATIENCE_S = 2.0


def print(text: str = "") -> None:
    """A line on stdout, at once: readers of a pipe wait for it."""
    builtins.print(text, flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Rows under their columns; numbers to the right. Fits a terminal's width; elsewhere nothing is cut."""
    texts = [[_printable(cell) for cell in row] for row in rows]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    if not (sys.stdout.isatty() and _rich_table(columns, texts, right, title)):
        _plain_table(columns, texts, right, title)


@contextmanager
def progress() -> Iterator[Progress]:
    """A Progress that shows on stderr what takes over 2 s: bars on a terminal, elsewhere a line a stage."""
    if sys.stderr.isatty():
        try:
            from rich.progress import Progress as Bars
        except ImportError:
            yield _Lines()
            return
        bars = _Bars(Bars(transient=True))
        try:
            yield bars
        finally:
            bars.stop()
    else:
        yield _Lines()


class _Bars:
    """A bar a stage."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._stages: dict[str, TaskID] = {}
        self._start_s = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._stages:
            self._stages[stage] = self._bars.add_task(stage)
        self._bars.update(self._stages[stage], completed=done, total=total)
        if not self._bars.live.is_started and time.monotonic() - self._start_s > _PATIENCE_S:
            self._bars.start()

    def stop(self) -> None:
        if self._bars.live.is_started:
            self._bars.stop()


class _Lines:
    """A line when a stage ends."""

    def __init__(self) -> None:
        self._starts_s: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        start_s = self._starts_s.setdefault(stage, now_s)
        if done >= total:
            del self._starts_s[stage]
            if now_s - start_s > _PATIENCE_S:
                builtins.print(f"{stage}: {now_s - start_s:.1f} s", file=sys.stderr, flush=True)


def _printable(cell: object) -> str:
    """Text without control characters, which a terminal would obey."""
    text = f"{cell:.4f}" if isinstance(cell, float) else str(cell)
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def _rich_table(
    columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[bool], title: str
) -> bool:
    """Whether rich is there to show it."""
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    shown = Table(title=Text(title) if title else None, title_justify="left", box=SIMPLE_HEAD)
    for column, numeric in zip(columns, right, strict=True):
        shown.add_column(Text(column), justify="right" if numeric else "left")
    for row in texts:
        shown.add_row(*(Text(text) for text in row))  # as Text, or [brackets] in titles would be markup
    Console().print(shown)
    return True


def _plain_table(
    columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[bool], title: str
) -> None:
    lines = [list(columns), *texts]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    if title:
        print(title)
    for line in lines:
        cells = [
            text.rjust(width) if numeric else text.ljust(width)
            for text, width, numeric in zip(line, widths, right, strict=True)
        ]
        print("  ".join(cells).rstrip())
