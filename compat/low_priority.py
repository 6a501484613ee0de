"""Low priority for processes beside a server."""

from __future__ import annotations

import os
from contextlib import suppress

_NICENESS = 19
# Value of /proc/PID/oom_score_adj by which this process is killed first when memory runs out.
_FIRST_TO_GO = "1000"
# Environment of such a process: libraries use one thread.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def lowest_priority() -> None:
    """Gives this process the lowest priority, where the system permits it."""
    with suppress(OSError):
        os.nice(_NICENESS)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_FIRST_TO_GO)
