"""Stores in which other things lie than whole snapshots: all that is whole is served, and the rest is named once."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from meshfold.model.errors import SnapshotRefused
from meshfold.model.snapshot import MANIFEST, MOST_MANIFEST_BYTES
from meshfold.model.store import Store
from meshfold.service.retries import QUIET_S, REFUSED_S
from meshfold.service.runner import Runner
from meshfold.service.versions import Versions

Publish = Callable[..., Path]
NAME = "20260101T000000000000Z-0123456789ab"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def versions(tmp_path: Path, clock: Clock) -> Versions:
    """Of the store tmp_path / "store"; looks only when told to."""
    open_runner = partial(Runner.open, device="cpu")
    return Versions(Store(tmp_path / "store"), open_runner, 60, clock=clock)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening_socket(path: Path) -> None:
    # Addresses are shorter than the paths of tests.
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def file(path: Path) -> None:
    path.write_text("not a folder")


def too_long(path: Path) -> None:
    path.symlink_to("x/" * 2000)


STRANGE = (fifo, listening_socket, loop, dangling, device, file, too_long)


def sparse(path: Path) -> None:
    with path.open("wb") as made:
        made.truncate(1 << 40)


def deep(path: Path) -> None:
    path.write_text('{"a":' * 200_000)


BAD_FILES = (*STRANGE, sparse, deep)


def messages(caplog: pytest.LogCaptureFixture, of: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if of in r.getMessage() and r.levelno >= logging.WARNING]


def test_every_good_surface_is_served_whatever_lies_beside_it(
    versions: Versions, tmp_path: Path, publish_items: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "store"
    named = []
    for place, make in enumerate(STRANGE):
        # As a surface, and as a snapshot of a surface that has another one.
        root.mkdir(exist_ok=True)
        make(root / f"bad_{make.__name__}")
        folder = publish_items(root, f"good_{place}")
        make(folder.parent / f"30{NAME[2:]}")
        named += [f"bad_{make.__name__}", f"good_{place}/30{NAME[2:]}"]
    for place, make in enumerate(BAD_FILES):
        # As a manifest and as a file of tensors of a newer snapshot.
        for name in (MANIFEST, "items.safetensors"):
            surface = f"file_{place}_{name[0]}"
            publish_items(root, surface)
            newer = publish_items(root, surface, seed=1)
            (newer / name).unlink()
            make(newer / name)
            named.append(f"{surface}/{newer.name}/{name}")
    os.mkdir(os.fsencode(root) + b"/\xff\xfe")
    os.mkdir(os.fsencode(root / "good_0") + b"/\xff\xfe")
    named += ["store/\\udcff\\udcfe", "good_0/\\udcff\\udcfe"]

    for _ in range(3):
        versions.refresh()
    assert sorted(versions.runners) == sorted(
        p.name for p in root.iterdir() if p.name[:4] in ("good", "file")
    )
    for name in named:
        assert len(messages(caplog, name)) == 1, name
    assert versions.failing == 2 * len(BAD_FILES)
    assert versions.store_readable


# Prints what is served and what is logged by one who may not read everything.
LOOK = """
import logging, sys
from pathlib import Path
from meshfold.model.store import Store
from meshfold.service.runner import Runner
from meshfold.service.versions import Versions
logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
versions = Versions(Store(Path(sys.argv[1])), Runner.open, 60)
for _ in range(2):
    versions.refresh()
print("served", *versions.runners)
"""
DROP_FROM_BOUNDS, READ_ANYTHING = 24, (1, 2)  # prctl's, and the capabilities that stand above rights


def without_privileges() -> None:
    for capability in READ_ANYTHING if os.geteuid() == 0 else ():
        if ctypes.CDLL(None).prctl(DROP_FROM_BOUNDS, capability, 0, 0, 0):
            raise OSError("the user of the tests may read anything, and cannot give that up")


def test_what_may_not_be_read_is_named_once_and_the_rest_is_served(
    tmp_path: Path, publish_items: Publish
) -> None:
    root = tmp_path / "store"
    publish_items(root, "good")
    publish_items(root, "surface")
    closed = [
        root / "surface",
        publish_items(root, "snapshot"),
        publish_items(root, "manifest") / MANIFEST,
        publish_items(root, "tensors") / "index.safetensors",
    ]
    for path in closed:
        path.chmod(0)
    command = [sys.executable, "-c", LOOK, str(root)]
    told = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd="/", preexec_fn=without_privileges
    )
    for path in closed:
        path.chmod(0o755)
    assert told.returncode == 0, told.stderr
    *logged, last = told.stdout.splitlines()
    assert last == "served good"
    denied = [line for line in logged if "Permission denied" in line]
    assert [sum(str(path) in line for line in denied) for path in closed] == [1, 1, 1, 1]


def test_a_folder_that_is_copied_in_place_is_served_once_it_is_whole(
    versions: Versions,
    clock: Clock,
    tmp_path: Path,
    publish_items: Publish,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = publish_items(tmp_path / "elsewhere")
    copy = tmp_path / "store" / "shop" / whole.name
    copy.mkdir(parents=True)
    for name in sorted(p.name for p in whole.iterdir()):
        data = (whole / name).read_bytes()
        for end in (0, len(data) // 2, len(data)):
            with (copy / name).open("wb") as written:
                written.write(data[:end])
            versions.refresh()
            clock.now_s += QUIET_S / 2
            versions.refresh()
            assert not versions.runners
    assert versions.failing == 1
    clock.now_s += QUIET_S
    versions.refresh()
    assert list(versions.runners) == ["shop"]
    assert versions.failing == 0
    assert len(messages(caplog, whole.name)) == 1


def test_a_broken_snapshot_that_does_not_change_is_seldom_read(
    tmp_path: Path, clock: Clock, publish_items: Publish
) -> None:
    (publish_items(tmp_path / "store") / "items.safetensors").write_bytes(b"x")
    tries: list[float] = []

    def open_runner(folder: Path, surface: str) -> Runner:
        tries.append(clock.now_s)
        return Runner.open(folder, surface)

    versions = Versions(Store(tmp_path / "store"), open_runner, 60, clock=clock)
    for second in range(1000):
        clock.now_s = float(second)
        versions.refresh()
    assert tries == [0, REFUSED_S, 3 * REFUSED_S, 7 * REFUSED_S, 15 * REFUSED_S]


def test_a_store_that_vanishes_is_told_and_so_is_its_return(
    versions: Versions, tmp_path: Path, publish_items: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "store"
    caplog.set_level(logging.INFO)
    for _ in range(3):
        versions.refresh()
    assert len(messages(caplog, "the store cannot be read")) == 1
    assert not versions.store_readable
    publish_items(root)
    versions.refresh()
    assert versions.store_readable
    assert len(messages(caplog, "the store can be read again")) == 1
    runner = versions.runner("shop")
    root.rename(tmp_path / "away")
    for _ in range(3):
        versions.refresh()
    assert versions.runner("shop") is runner
    assert len(messages(caplog, "the store cannot be read")) == 2
    file(root)
    versions.refresh()
    assert not versions.store_readable
    root.unlink()
    (tmp_path / "away").rename(root)
    versions.refresh()
    assert versions.store_readable
    assert versions.runner("shop") is runner


def test_too_many_open_files_pass(
    tmp_path: Path, clock: Clock, publish_items: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    publish_items(tmp_path / "store")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = True

    def open_runner(folder: Path, surface: str) -> Runner:
        nonlocal first
        if first:
            first = False
            used = os.open("/dev/null", os.O_RDONLY)
            os.close(used)
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
        try:
            return Runner.open(folder, surface)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    versions = Versions(Store(tmp_path / "store"), open_runner, 60, clock=clock)
    versions.refresh()
    assert not versions.runners
    assert len(messages(caplog, "Too many open files")) == 1
    clock.now_s += 1
    versions.refresh()
    assert list(versions.runners) == ["shop"]


def test_a_surface_that_serves_nothing_and_small_ones_come_first(
    tmp_path: Path, clock: Clock, publish_items: Publish
) -> None:
    root = tmp_path / "store"
    opened: list[str] = []

    def open_runner(folder: Path, surface: str) -> Runner:
        opened.append(surface)
        if surface == "heavy" and len(opened) == 1:
            # While the first loads, another surface is published.
            publish_items(root, "late")
        if surface == "broken":
            raise SnapshotRefused("broken")
        return Runner.open(folder, surface)

    versions = Versions(Store(root), open_runner, 60, clock=clock)
    with (publish_items(root, "heavy").parent / NAME).open("wb"):
        pass
    versions.refresh()
    assert opened == ["heavy", "late"]
    opened.clear()
    for surface in ("heavy", "new", "broken"):
        folder = publish_items(root, surface, seed=1)
        if surface != "new":
            (folder / "more").write_bytes(bytes(1 << 20))
    versions.refresh()
    assert opened == ["new", "broken", "heavy"]
    opened.clear()
    clock.now_s += REFUSED_S
    (publish_items(root, "heavy", seed=2) / "more").write_bytes(bytes(4 << 20))
    versions.refresh()
    # What failed before waits for what has not.
    assert opened == ["heavy", "broken"]


@pytest.fixture
def churn(tmp_path: Path, publish_items: Publish) -> Iterator[Path]:
    """A store in which folders come and go, with what they hold."""
    root = tmp_path / "store"
    whole = publish_items(tmp_path / "elsewhere", "coming")
    publish_items(root, "good")
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            shutil.copytree(whole, root / "coming" / whole.name)
            shutil.rmtree(root / "coming")

    thread = threading.Thread(target=run)
    thread.start()
    yield root
    stop.set()
    thread.join()


def test_folders_that_are_deleted_while_they_are_read_stop_nothing(churn: Path, clock: Clock) -> None:
    versions = Versions(Store(churn), partial(Runner.open, device="cpu"), 60, clock=clock)
    end_s = time.monotonic() + 1.0
    while time.monotonic() < end_s:
        clock.now_s += 10 * QUIET_S
        versions.refresh()
        assert "good" in versions.runners


def test_a_manifest_beyond_the_limit_is_refused_by_name(tmp_path: Path, publish_items: Publish) -> None:
    folder = publish_items(tmp_path / "store")
    raw = json.loads((folder / MANIFEST).read_text())
    raw["built"]["source"] = "x" * MOST_MANIFEST_BYTES
    (folder / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(SnapshotRefused, match=r"manifest\.json: more than 16,777,216 bytes"):
        Runner.open(folder, "shop")
