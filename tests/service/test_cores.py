from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshfold.service.cores import cores

OWN = len(os.sched_getaffinity(0))


def root_of(folder: Path, cgroup: str, **files: str) -> Path:
    """A file system with the cgroups of this process, and files by path with `__` for `/`."""
    for name, text in {
        "proc/self/cgroup": cgroup,
        **{n.replace("__", "/"): t for n, t in files.items()},
    }.items():
        path = folder / name.replace("=", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_process_may_use_the_cores_that_it_may_run_on(tmp_path: Path) -> None:
    assert cores(tmp_path) == OWN
    assert cores(root_of(tmp_path, "0::/\n", **{"sys__fs__cgroup__cpu=max": "max 100000\n"})) == OWN


@pytest.mark.parametrize(("told", "expected"), [("50000 100000", 1), ("100000 100000", 1), ("x", OWN)])
def test_a_containers_limit_counts(tmp_path: Path, told: str, expected: int) -> None:
    assert cores(root_of(tmp_path, "0::/\n", **{"sys__fs__cgroup__cpu=max": told})) == expected


def test_the_limit_of_a_cgroup_above_counts(tmp_path: Path) -> None:
    files = {
        "sys__fs__cgroup__pods__a__cpu=max": "max 100000",
        "sys__fs__cgroup__pods__cpu=max": "90000 100000",
    }
    assert cores(root_of(tmp_path, "0::/pods/a\n", **files)) == 1


def test_a_limit_of_cgroups_of_version_1_counts(tmp_path: Path) -> None:
    files = {
        "sys__fs__cgroup__cpu__cpu=cfs_quota_us": "60000\n",
        "sys__fs__cgroup__cpu__cpu=cfs_period_us": "100000\n",
    }
    assert cores(root_of(tmp_path, "3:cpu,cpuacct:/\n2:memory:/\n", **files)) == 1
    files["sys__fs__cgroup__cpu__cpu=cfs_quota_us"] = "-1\n"
    assert cores(root_of(tmp_path, "3:cpu,cpuacct:/\n", **files)) == OWN
