from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from meshfold.model.errors import SnapshotRefused
from meshfold.service.memory_room import Free, check_room, free, size_of

GIB = 1 << 30
Publish = Callable[..., Path]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root of /proc and /sys with 8 GiB available."""
    write(tmp_path / "proc/meminfo", f"MemTotal: 99 kB\nMemAvailable:   {8 * GIB // 1024} kB\n")
    return tmp_path


def test_the_machine_alone(machine: Path, tmp_path: Path) -> None:
    assert free(machine) == Free(8 * GIB, "MemAvailable of the machine")
    assert free(tmp_path / "nothing") is None


def test_the_tightest_cgroup_counts_without_pages_that_would_be_given_up(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "0::/outer/inner\n")
    group = machine / "sys/fs/cgroup"
    write(group / "outer/memory.max", f"{4 * GIB}\n")
    write(group / "outer/memory.current", f"{3 * GIB}\n")
    write(group / "outer/memory.stat", f"anon 5\ninactive_file {GIB}\nactive_file 7\n")
    write(group / "outer/inner/memory.max", "max\n")
    write(group / "outer/inner/memory.current", f"{3 * GIB}\n")
    found = free(machine)
    assert found is not None
    assert found.bytes == 2 * GIB
    assert "4,096 MiB of" in found.limit


def test_a_container_that_names_the_path_of_its_host(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "0::/../../docker/abc\n")
    write(machine / "sys/fs/cgroup/memory.max", f"{GIB}")
    write(machine / "sys/fs/cgroup/memory.current", f"{2 * GIB}")
    found = free(machine)
    assert found is not None
    assert found.bytes == 0


def test_cgroups_of_version_1(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "5:cpu,memory:/job\n3:pids:/x\n")
    group = machine / "sys/fs/cgroup/memory"
    write(group / "memory.limit_in_bytes", "9223372036854771712")
    write(group / "memory.usage_in_bytes", "5")
    write(group / "job/memory.limit_in_bytes", f"{GIB}")
    write(group / "job/memory.usage_in_bytes", f"{GIB // 2}")
    write(group / "job/memory.stat", f"total_inactive_file {GIB // 4}\n")
    found = free(machine)
    assert found is not None
    assert found.bytes == GIB * 3 // 4


def test_a_snapshot_without_room_is_refused_with_both_figures(tmp_path: Path, publish_items: Publish) -> None:
    folder = publish_items(tmp_path / "store")
    size = size_of(folder)
    assert size.items == 400
    assert size.disk_bytes == sum(f.stat().st_size for f in folder.iterdir() if f.name != "manifest.json")
    write(tmp_path / "proc/meminfo", f"MemAvailable: {size.memory_bytes // 1024 + 1} kB")
    check_room(folder, tmp_path)
    write(tmp_path / "proc/meminfo", f"MemAvailable: {size.memory_bytes // 1024 - 1} kB")
    with pytest.raises(
        SnapshotRefused, match=r"takes 3\d MiB of memory .* but 3\d MiB are free \(MemAvailable"
    ) as told:
        check_room(folder, tmp_path)
    assert isinstance(told.value.__cause__, MemoryError)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": "a", "content": {"items": 3}}', "\xff"])
def test_a_manifest_that_tells_nothing_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "manifest.json", text)
    with pytest.raises(SnapshotRefused, match="no manifest"):
        size_of(tmp_path)
