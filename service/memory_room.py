"""Checks, before a snapshot is loaded, that it fits into memory beside the served ones; reads only its manifest.

Sources: proc(5) for MemAvailable; the kernel's cgroup-v2.rst and cgroup-v1/memory.rst for limits of containers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from meshfold.model.errors import SnapshotRefused
from meshfold.model.snapshot import FILTER, INDEX, ITEMS, MANIFEST, MOST_MANIFEST_BYTES, PROGRAMS
from meshfold.model.tensor_file import read_whole
from meshfold.service.cgroups import cgroup_folders, text_of

_ROOT = Path("/")
# Bytes of an item per dimension on a CPU: code and residual in huge pages, and the packed coarse code.
_BYTES_PER_DIMENSION = 2.5
# Bytes of an item besides: unit and row.
_BYTES_PER_ITEM = 8
# Copies of a program while it is loaded (read, rewritten, run), and bytes of forward passes.
_PROGRAM_COPIES, _PASSES_BYTES = 3, 32 << 20
# Limits from here on mean no limit: a cgroup of version 1 without one reports a number near 2^63.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class Free:
    """Free memory. bytes: that this process may still take. limit: what sets it, in words."""

    bytes: int
    limit: str


@dataclass(frozen=True)
class SnapshotSize:
    """The size of a snapshot. items: number of items. disk_bytes: of its files. memory_bytes: most memory while it is
    served on a CPU; pages of files that are never read take none."""

    version: str
    items: int
    disk_bytes: int
    memory_bytes: int


def size_of(folder: Path) -> SnapshotSize:
    """The size, from the manifest. Raises SnapshotRefused where that cannot be read."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(read_whole(path, MOST_MANIFEST_BYTES).decode())
        version, content = str(manifest["version"]), manifest["content"]
        items, dimension = int(content["items"]), int(content["dimension"])
        sizes = {name: int(mark["size_bytes"]) for name, mark in content["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SnapshotRefused(f"{path}: no manifest ({error!r}); publish the snapshot again") from None
    own = items * (int(_BYTES_PER_DIMENSION * dimension) + _BYTES_PER_ITEM)
    mapped = sizes.get(ITEMS, 0) + sizes.get(FILTER, 0) + max(0, sizes.get(INDEX, 0) - 2 * items * dimension)
    programs = _PROGRAM_COPIES * sum(sizes.get(name, 0) for name in PROGRAMS)
    return SnapshotSize(version, items, sum(sizes.values()), own + mapped + programs + _PASSES_BYTES)


def free(root: Path = _ROOT) -> Free | None:
    """Free memory: the least of what the machine and the cgroups of this process leave; None where unknown.

    root: of the file system that has /proc and /sys.
    """
    found = [*_of_machine(root), *_of_cgroups(root)]
    return min(found, key=lambda one: one.bytes, default=None)


def check_room(folder: Path, root: Path = _ROOT) -> None:
    """Raises SnapshotRefused where a snapshot does not fit into free memory."""
    needed, left = size_of(folder).memory_bytes, free(root)
    if left is not None and needed > left.bytes:
        # Memory may be free soon: a cause of MemoryError makes Retries try again after a second.
        raise SnapshotRefused(
            f"{folder}: takes {_mib(needed)} of memory beside what is served, but {_mib(left.bytes)} are free"
            f" ({left.limit}); what is served stays. Free memory, raise the limit, or restart the server, which"
            " loads it alone"
        ) from MemoryError()


def _of_machine(root: Path) -> list[Free]:
    for line in text_of(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return [Free(int(value.split()[0]) << 10, "MemAvailable of the machine")]
    return []


def _of_cgroups(root: Path) -> list[Free]:
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }
    folders = cgroup_folders("memory", root)
    return [free for version, folder in folders for free in _of_cgroup(folder, *names[version])]


def _of_cgroup(folder: Path, most: str, used: str, cached: str) -> list[Free]:
    limit, used_bytes = _number(folder / most), _number(folder / used)
    if limit is None or used_bytes is None or limit >= _NO_LIMIT:
        return []
    for line in text_of(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == cached:
            # Inactive pages of files count as free, since the kernel reclaims them first.
            used_bytes -= int(value)
    return [Free(max(0, limit - max(0, used_bytes)), f"{_mib(limit)} of {folder / most}")]


def _number(path: Path) -> int | None:
    text = text_of(path).strip()
    return int(text) if text.isdecimal() else None


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
