"""The number of cores that this process may use.

Sources: sched_getaffinity(2); the kernel's cgroup-v2.rst (cpu.max) and sched-bwc.rst (cpu.cfs_quota_us) for containers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from meshfold.service.cgroups import cgroup_folders, text_of

_ROOT = Path("/")


def cores(root: Path = _ROOT) -> int:
    """The number of cores, at least 1, rounded up. root: of the file system that has /proc and /sys."""
    affinity = getattr(os, "sched_getaffinity", None)
    own = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min([own, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """The quota in cores of each limited cgroup of this process."""
    for version, folder in cgroup_folders("cpu", root):
        words = text_of(folder / "cpu.max").split()
        if version == 1:
            words = [text_of(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
            yield int(words[0]) / int(words[1])
