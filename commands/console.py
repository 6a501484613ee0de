"""The output of commands for people: answers on stdout, progress on stderr."""

from __future__ import annotations

import builtins
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshfold.model.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

# Seconds before progress is shown, longest silence afterwards, and interval of checks. With imports, no command is
# silent for 5 s.
_PATIENCE_S, _SILENT_S, _TICK_S = 2.0, 3.0, 0.25


def print(text: str = "") -> None:
    """Prints a line on stdout and flushes it, for readers of a pipe."""
    _state.has_answered = True
    _state.spoke()
    builtins.print(text, flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Prints a table, numbers aligned right. Fits a terminal's width; elsewhere nothing is cut."""
    _state.has_answered = True
    _state.spoke()
    texts = [[_printable(cell) for cell in row] for row in rows]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    if not (sys.stdout.isatty() and _rich_table(columns, texts, right, title)):
        _plain_table(columns, texts, right, title)


@contextmanager
def progress() -> Iterator[Progress]:
    """A Progress that shows stages of more than 2 s on stderr: bars on a terminal, lines elsewhere."""
    shown = _bars() if sys.stderr.isatty() else None
    reporter = shown or _Lines()
    # No bars for loads of a running server.
    if not _state.beats or _state.has_answered:
        _state.spoke()
    _state.progresses += 1
    try:
        with _ticking(reporter.tick):
            yield reporter
    finally:
        _state.progresses -= 1
        reporter.stop()


@contextmanager
def heartbeat(command: str) -> Iterator[None]:
    """Prints a line on stderr every few seconds until the command prints anything or shows a Progress."""
    start_s = time.monotonic()

    def tick() -> bool:
        if _state.has_answered:
            return False
        if not _state.progresses and _state.is_silent():
            _line(f"{command}: {time.monotonic() - start_s:.0f} s so far")
        return True

    _state.beats = True
    try:
        with _ticking(tick):
            yield
    finally:
        _state.beats = False


@dataclass
class _State:
    """The state of the output. progresses: number of running Progresses. beats: whether a heartbeat runs. has_answered:
    whether the command has printed anything. said_s: time of the last output."""

    progresses: int = 0
    beats: bool = False
    has_answered: bool = False
    said_s: float = field(default_factory=time.monotonic)

    def is_silent(self) -> bool:
        return time.monotonic() - self.said_s >= _SILENT_S

    def spoke(self) -> None:
        self.said_s = time.monotonic()


_state = _State()


@contextmanager
def _ticking(tick: Callable[[], bool]) -> Iterator[None]:
    """Calls tick every _TICK_S seconds from another thread, until it returns False."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(_TICK_S):
            if not tick():
                return

    thread = threading.Thread(target=run, name="meshfold-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Bars:
    """Shows a bar for each stage."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._stages: dict[str, TaskID] = {}
        self._start_s = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._stages:
            self._stages[stage] = self._bars.add_task(stage)
        self._bars.update(self._stages[stage], completed=done, total=total)

    def tick(self) -> bool:
        if self._bars.live.is_started:
            _state.spoke()
        elif _state.is_silent() or time.monotonic() - self._start_s > _PATIENCE_S:
            if not self._stages:
                self._stages[""] = self._bars.add_task("working", total=None)
            self._bars.start()
        return True

    def stop(self) -> None:
        if self._bars.live.is_started:
            self._bars.stop()


class _Lines:
    """Prints a line when a stage ends, and one every few seconds while none ends."""

    def __init__(self) -> None:
        # (start time, done, total) of each running stage, the latest last.
        self._stages: dict[str, tuple[float, int, int]] = {}
        self._start_s = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        with self._lock:
            start_s, *_ = self._stages.pop(stage, (now_s, 0, 0))
            if done < total:
                self._stages[stage] = start_s, done, total
            elif now_s - start_s > _PATIENCE_S:
                _line(f"{stage}: {now_s - start_s:.1f} s")

    def tick(self) -> bool:
        with self._lock:
            if _state.is_silent():
                latest = next(reversed(self._stages.items()), ("working", (self._start_s, 0, 0)))
                stage, (start_s, done, total) = latest
                far = f", {done:,} of {total:,}" if done else ""
                _line(f"{stage}: {time.monotonic() - start_s:.0f} s so far{far}")
        return True

    def stop(self) -> None:
        """Does nothing: there is nothing to remove."""


def _bars() -> _Bars | None:
    """The bars; None where rich is not installed."""
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as Bars
    except ImportError:
        return None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    return _Bars(Bars(*columns, console=Console(stderr=True), transient=True))


def _line(text: str) -> None:
    _state.spoke()
    builtins.print(text, file=sys.stderr, flush=True)


def _printable(cell: object) -> str:
    """Text without control characters, which a terminal would interpret."""
    text = f"{cell:.4f}" if isinstance(cell, float) else str(cell)
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def _rich_table(
    columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[bool], title: str
) -> bool:
    """Prints a table with rich; returns whether rich is installed."""
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
        shown.add_row(*(Text(text) for text in row))  # Text, so that [brackets] in titles are no markup
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
