"""Niceness of work that leaves processor time to callers' requests: 0 is usual, 19 leaves the most."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

# Heavy requests and shadows. In a thread of the server a higher one would keep Python's lock too long each time it gets
# it, since it then waits for the processor.
BACKGROUND = 5
# Loads of snapshots, in processes of their own.
LOADING = 10


def be_nicer(by: int) -> None:
    """Raises the niceness of the calling thread, where the system allows it."""
    if by:
        with suppress(OSError, AttributeError):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + by)
