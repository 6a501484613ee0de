from __future__ import annotations

import gc
import logging
import shutil
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from meshfold.model.errors import InvalidQuery, UnknownName
from meshfold.model.store import Store
from meshfold.model.types import Query
from meshfold.service.errors import NothingServed
from meshfold.service.runner import Runner
from meshfold.service.versions import Versions

Publish = Callable[..., Path]


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    """Of the store tmp_path; looks only when told to."""
    return Versions(Store(tmp_path), partial(Runner.open, device="cpu"), poll_interval_s=60)


def spoil(folder: Path) -> Path:
    """Changes one byte of a file of a snapshot. Returns the file."""
    file = max((f for f in folder.iterdir() if f.suffix == ".safetensors"), key=lambda f: f.stat().st_size)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return file


def served(versions: Versions) -> dict[str, str]:
    return {surface: runner.version for surface, runner in versions.runners.items()}


def short(folder: Path) -> str:
    """The start of a snapshot's version, as its folder names it."""
    return folder.name.rpartition("-")[2]


def test_an_empty_store_serves_nothing_until_something_is_published(
    versions: Versions, tmp_path: Path, publish_items: Publish
) -> None:
    versions.refresh()
    with pytest.raises(NothingServed, match="meshfold build"):
        versions.runner("")
    folder = publish_items(tmp_path)
    versions.refresh()
    assert versions.runner("").version.startswith(short(folder))


def test_the_newest_is_served_and_replaced_by_a_newer_one(
    versions: Versions, tmp_path: Path, publish_items: Publish
) -> None:
    publish_items(tmp_path, seed=0)
    second = publish_items(tmp_path, seed=1)
    versions.refresh()
    before = versions.runner("shop")
    assert before.version.startswith(short(second))
    third = publish_items(tmp_path, seed=2)
    versions.refresh()
    assert versions.runner("shop").version.startswith(short(third))
    # Who holds the old one can still ask it; when nobody does, it is freed.
    query = before.prepare(Query("shop", 3, history=np.array([10])))
    assert before.run([query])[0].version.startswith(short(second))
    freed = weakref.ref(before)
    del before
    gc.collect()
    assert freed() is None


def test_a_refused_snapshot_leaves_the_served_one_and_is_named_once(
    versions: Versions, tmp_path: Path, publish_items: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    publish_items(tmp_path, seed=0)
    versions.refresh()
    before = served(versions)
    broken = spoil(publish_items(tmp_path, seed=1))
    versions.refresh()
    versions.refresh()
    assert served(versions) == before
    assert [str(broken) in record.getMessage() for record in caplog.records] == [True]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    third = publish_items(tmp_path, seed=2)
    versions.refresh()
    assert served(versions)["shop"].startswith(short(third))


def test_a_start_falls_back_to_the_newest_that_is_whole(
    versions: Versions, tmp_path: Path, publish_items: Publish
) -> None:
    publish_items(tmp_path, seed=0)
    second = publish_items(tmp_path, seed=1)
    spoil(publish_items(tmp_path, seed=2))
    versions.refresh()
    assert served(versions)["shop"].startswith(short(second))
    versions.refresh()
    assert served(versions)["shop"].startswith(short(second))


def test_a_removed_snapshot_stays_served_and_no_older_one_comes_back(
    versions: Versions, tmp_path: Path, publish_items: Publish
) -> None:
    publish_items(tmp_path, seed=0)
    second = publish_items(tmp_path, seed=1)
    versions.refresh()
    shutil.rmtree(second)
    versions.refresh()
    runner = versions.runner("shop")
    assert runner.version.startswith(short(second))
    assert len(runner.run([runner.prepare(Query("shop", 3))])[0].item_ids) == 3
    shutil.rmtree(tmp_path)
    versions.refresh()
    assert versions.runner("shop") is runner


def test_surfaces_appear_and_are_told_apart(
    versions: Versions, tmp_path: Path, publish_items: Publish
) -> None:
    publish_items(tmp_path)
    versions.refresh()
    assert versions.runner("") is versions.runner("shop")
    publish_items(tmp_path, "video")
    versions.refresh()
    assert versions.runner("video").surface == "video"
    with pytest.raises(InvalidQuery, match="surface: several are served; name one of shop, video"):
        versions.runner("")
    with pytest.raises(UnknownName, match="no surface 'vdeo' is served; did you mean 'video'"):
        versions.runner("vdeo")


def test_a_store_that_cannot_be_read_is_told_once_and_recovers(
    tmp_path: Path, publish_items: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    versions = Versions(store, partial(Runner.open, device="cpu"), poll_interval_s=60)
    publish_items(tmp_path, seed=0)
    versions.refresh()
    before = served(versions)
    store.root = Path("x" * 5000)  # longer than any path may be: every access is an error, for any user
    versions.refresh()
    versions.refresh()
    assert served(versions) == before
    assert ["the store cannot be read" in record.getMessage() for record in caplog.records] == [True]
    store.root = tmp_path
    newer = publish_items(tmp_path, seed=1)
    versions.refresh()
    assert served(versions)["shop"].startswith(short(newer))


@pytest.fixture
def polling(tmp_path: Path, changes: list[float]) -> Iterator[Versions]:
    versions = Versions(
        Store(tmp_path), partial(Runner.open, device="cpu"), 0.02, lambda: changes.append(time.monotonic())
    )
    versions.start()
    yield versions
    versions.stop(10)


@pytest.fixture
def changes() -> list[float]:
    return []


def test_what_is_published_is_served_by_itself(
    polling: Versions, tmp_path: Path, publish_items: Publish, changes: list[float]
) -> None:
    for seed in range(2):
        folder = publish_items(tmp_path, seed=seed)
        end_s = time.monotonic() + 10
        while not served(polling).get("shop", "").startswith(short(folder)):
            assert time.monotonic() < end_s
            time.sleep(0.01)
    end_s = time.monotonic() + 10
    while len(changes) < 2 and time.monotonic() < end_s:
        time.sleep(0.01)
    assert len(changes) == 2
