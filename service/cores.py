"""How many cores this process may use.

Sources: sched_getaffinity(2); the kernel's cgroup-v2.rst (cpu.max) and sched-bwc.rst (cpu.cfs_quota_us) for containers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def cores(root: Path = _ROOT) -> int:
    """At least 1; a part of a core counts as one. root: of the file system that holds /proc and /sys."""
    affinity = getattr(os, "sched_getaffinity", None)
    own = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min([own, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Cores that the cgroups of this process have time of, where they are limited."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        home = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # In a container the path may be the host's, which is not there; then the limits stand at the top.
        parts = Path(path.strip("/")).parts
        for depth in range(len(parts), -1, -1):
            yield from _quota(home.joinpath(*parts[:depth]))


def _quota(folder: Path) -> Iterator[float]:
    words = _text(folder / "cpu.max").split() or [
        *_text(folder / "cpu.cfs_quota_us").split(),
        *_text(folder / "cpu.cfs_period_us").split(),
    ]
    if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
        yield int(words[0]) / int(words[1])


def _text(path: Path) -> str:
    """Empty where it cannot be read."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
