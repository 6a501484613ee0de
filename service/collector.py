"""Python's garbage collector while serving."""

from __future__ import annotations

import gc


def start() -> None:
    """Before serving."""
    gc.freeze()


def settle() -> None:
    """After a version was loaded."""
    gc.freeze()
