"""Another process that uses the same file of modes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SCRIPT = Path(__file__).with_name("mode_writers.py")


def said(word: str, path: Path) -> str:
    """All that a process of mode_writers.py prints."""
    return subprocess.run(
        [sys.executable, _SCRIPT, word, path], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    ).stdout


@contextmanager
def beside(word: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of mode_writers.py from its first line of output on; it ends with the block."""
    with subprocess.Popen(
        [sys.executable, _SCRIPT, word, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.stdin.close()
        assert process.wait(10) == 0
