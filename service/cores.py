"""The number of cores that this process may use.

Sources: sched_getaffinity(2); the kernel's cgroup-v2.rst (cpu.max) and sched-bwc.rst (cpu.cfs_quota_us) for containers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def cores(root: Path = _ROOT) -> int:
    """The number of cores, at least 1, rounded up. root: of the file system that has /proc and /sys."""
    affinity = getattr(os, "sched_getaffinity", None)
    own = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min([own, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """The quota in cores of each limited cgroup of this process."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        home = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # In a container the path may be the host's and missing here; then the limits are at the top.
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
    """The text of a file; empty where it cannot be read."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
