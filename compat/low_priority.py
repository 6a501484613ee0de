"""Processes beside a server whose callers come first."""

from __future__ import annotations

import os
from contextlib import suppress

_NICENESS = 19
# Of /proc/PID/oom_score_adj: where memory runs out, this process goes first.
_FIRST_TO_GO = "1000"
# For the environment of such a process: one core's worth of one thread.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def lowest_priority() -> None:
    """For this process, where the system lets it."""
    with suppress(OSError):
        os.nice(_NICENESS)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_FIRST_TO_GO)
