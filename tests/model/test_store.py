import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meshfold.model.store import Store, state_of


def publish(store: Store, version: str, surface: str = "shop", content: str = "") -> Path:
    with store.partial(surface) as partial:
        (partial / "content").write_text(content or version)
        return store.publish(surface, partial, version)


def version(letter: str) -> str:
    return letter * 64


def test_the_newest_comes_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folders = [publish(store, version(letter)) for letter in "abcdef"]
    assert store.published("shop") == folders[::-1]
    assert [f.name[-12:] for f in folders] == [letter * 12 for letter in "abcdef"]
    assert (folders[0] / "content").read_text() == version("a")


def test_nothing_is_published_where_there_is_nothing(tmp_path: Path) -> None:
    assert Store(tmp_path / "not-there").surfaces() == []
    assert Store(tmp_path).published("shop") == []


def test_publishing_the_newest_again_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, version("b"))
    first = publish(store, version("a"), content="first")
    assert publish(store, version("a"), content="second") == first
    assert len(store.published("shop")) == 2
    assert (first / "content").read_text() == "first"
    assert [p.name for p in (tmp_path / "shop").glob(".*")] == []


def test_an_older_version_can_be_published_once_more(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, new = publish(store, version("a")), publish(store, version("b"))
    again = publish(store, version("a"))
    assert store.published("shop") == [again, new, old]


def test_surfaces_are_those_with_something_published(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, version("a"), "video")
    publish(store, version("a"), "feed")
    (tmp_path / "empty").mkdir()
    (tmp_path / "not a surface").mkdir()
    (tmp_path / "file").write_text("")
    with store.partial("half"):
        assert store.surfaces() == ["feed", "video"]


def test_a_folder_that_is_being_written_is_out_of_sight(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.partial("shop") as partial:
        (partial / "content").write_text("half")
        assert store.published("shop") == []
        folder = store.publish("shop", partial, version("a"))
        assert not partial.exists()
        assert store.published("shop") == [folder]


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail() -> None:
        with store.partial("shop") as partial:
            (partial / "content").write_text("half")
            raise RuntimeError("of the build")

    with pytest.raises(RuntimeError, match="of the build"):
        fail()
    assert list((tmp_path / "shop").iterdir()) == []


def test_what_a_killed_build_left_is_cleaned_up_a_day_later(tmp_path: Path) -> None:
    killed, running = (tmp_path / "shop" / f".partial-{name}" for name in ("killed", "running"))
    for folder in (killed, running):
        folder.mkdir(parents=True)
        (folder / "content").write_text("half")
    yesterday = time.time() - 25 * 3600
    os.utime(killed, (yesterday, yesterday))
    publish(Store(tmp_path), version("a"))
    assert not killed.exists()
    assert running.exists()


def test_a_clock_that_went_back_does_not_hide_what_is_published(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ahead = datetime.now(UTC) + timedelta(days=400)
    folder = publish(store, version("a"))
    future = folder.rename(folder.with_name(f"{ahead.strftime('%Y%m%dT%H%M%S%fZ')}-{'a' * 12}"))
    newer = publish(store, version("b"))
    newest = publish(store, version("c"))
    assert store.published("shop") == [newest, newer, future]


@pytest.mark.parametrize(
    "name", ["latest", "20260101T000000000000Z", "20260101T000000000000Z-zzzzzzzzzzzz", ".x"]
)
def test_folders_of_other_names_are_no_snapshots(tmp_path: Path, name: str) -> None:
    (tmp_path / "shop" / name).mkdir(parents=True)
    store = Store(tmp_path)
    assert store.published("shop") == [] == store.surfaces()
    folder = publish(store, version("a"))
    assert store.published("shop") == [folder]


def test_what_is_no_snapshot_is_told_with_why(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = publish(store, version("a"))
    (tmp_path / "file").write_text("")
    (tmp_path / "no surface").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "shop" / "notes").write_text("")
    newer = tmp_path / "shop" / f"30{folder.name[2:]}"
    newer.symlink_to("nowhere")
    listing = store.look()
    assert listing.published == {"shop": [folder]}
    assert listing.strange == {
        tmp_path / "file": "no folder",
        tmp_path / "no surface": "no name of a surface",
        tmp_path / "loop": "Too many levels of symbolic links",
        tmp_path / "shop" / "notes": "no name of a snapshot",
        newer: "No such file or directory",
    }
    assert store.surfaces() == ["shop"]
    assert Store(tmp_path, only="loop").look().published == {}


def test_a_store_that_is_not_there_is_an_error_to_who_looks(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Store(tmp_path / "not-there").look()


def test_the_state_of_a_folder_changes_with_all_that_it_holds(tmp_path: Path) -> None:
    folder = publish(Store(tmp_path), version("a"))
    file = folder / "content"
    states = [state_of(folder)]
    for change in (
        lambda: file.write_text("longer"),
        lambda: os.utime(file, (1, 1)),
        lambda: file.chmod(0o600),
        lambda: (folder / "other").write_text(""),
        lambda: file.unlink(),
        lambda: file.symlink_to("content"),
    ):
        change()
        states.append(state_of(folder))
    assert len(set(states)) == 7
    assert state_of(folder) == states[-1]
    shutil.rmtree(folder)
    assert state_of(folder) is None
