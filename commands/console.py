"""What commands show to people: answers on stdout, progress on stderr."""

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

# What is over sooner shows nothing; what takes longer is never silent for as long as 5 s, imports before it counted.
_PATIENCE_S, _SILENT_S, _TICK_S = 2.0, 3.0, 0.25


def print(text: str = "") -> None:
    """A line on stdout, at once: readers of a pipe wait for it."""
    _state.has_answered = True
    _state.spoke()
    builtins.print(text, flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Rows under their columns; numbers to the right. Fits a terminal's width; elsewhere nothing is cut."""
    _state.has_answered = True
    _state.spoke()
    texts = [[_printable(cell) for cell in row] for row in rows]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    if not (sys.stdout.isatty() and _rich_table(columns, texts, right, title)):
        _plain_table(columns, texts, right, title)


@contextmanager
def progress() -> Iterator[Progress]:
    """A Progress that shows on stderr what takes over 2 s: bars on a terminal, elsewhere lines."""
    shown = _bars() if sys.stderr.isatty() else None
    reporter = shown or _Lines()
    # Of what a server loads later, the time since it said that it is ready tells nothing.
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
    """Says on stderr every few seconds that a command works, until it prints; a Progress does so in its place."""
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
    """progresses: how many are at work. beats: whether a heartbeat is. has_answered: whether the command printed
    anything. said_s: when anything was last shown."""

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
    """Calls tick every now and then from another thread, until it returns False."""
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
    """A bar a stage."""

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
    """A line when a stage ends, and while nothing ends, one every few seconds."""

    def __init__(self) -> None:
        # (when it began, done, total) of what has not ended, the latest last.
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
        """Nothing is left to be said."""


def _bars() -> _Bars | None:
    """None where rich is not there."""
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
