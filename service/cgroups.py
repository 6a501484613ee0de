"""The cgroups of this process, whose limits hold for it. Source: cgroups(7)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def cgroup_folders(controller: str, root: Path) -> Iterator[tuple[int, Path]]:
    """The version (1 or 2) and folder of each cgroup that a controller may limit this process by, the innermost first.

    root: of the file system that has /proc and /sys.
    """
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        home = root / "sys/fs/cgroup" / (controller if controllers else "")
        # In a container the path may be the host's and missing here; then the limits are at the top.
        parts = Path(path.strip("/")).parts
        for depth in range(len(parts), -1, -1):
            yield 1 if controllers else 2, home.joinpath(*parts[:depth])


def text_of(path: Path) -> str:
    """The text of a file of the kernel; empty where it cannot be read."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
