"""Stages of a forward pass, between which it can be abandoned."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_of_thread = threading.local()


class Abandoned(Exception):
    """A forward pass was abandoned, because its callers have disconnected."""


@contextmanager
def abandoned_when(is_abandoned: Callable[[], bool]) -> Iterator[None]:
    """Makes forward passes of this thread raise Abandoned at the next stage once is_abandoned() is true."""
    _of_thread.is_abandoned = is_abandoned
    try:
        yield
    finally:
        _of_thread.is_abandoned = None


def stage() -> None:
    """Begins a stage. Raises Abandoned where the pass was abandoned."""
    is_abandoned = getattr(_of_thread, "is_abandoned", None)
    if is_abandoned is not None and is_abandoned():
        raise Abandoned
