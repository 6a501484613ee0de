"""Pins, roll-backs and deletions over a store of real snapshots."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from meshfold.model.errors import InvalidQuery, NotDurable, SnapshotRefused, UnknownName, Unprepared
from meshfold.model.store import Store, published_s
from meshfold.service.retention import RetentionConfig, expired
from meshfold.service.runner import Runner
from meshfold.service.version_operations import VersionOperations
from meshfold.service.version_pins import Action, VersionPins
from meshfold.service.versions import Versions
from tests.service.test_versions import spoil

Publish = Callable[..., Path]
DAY_S = 86_400.0


class Opened:
    """A server's versions: what it opened is counted."""

    def __init__(self, root: Path, retention: RetentionConfig | None = None, **settings: object) -> None:
        self.opened: list[str] = []
        self.pins = VersionPins(root / ".serving" / "versions.json")
        store = Store(root)
        self.versions = Versions(store, self._open, 60, pins=self.pins, **settings)  # type: ignore[arg-type]
        self.operations = VersionOperations(store, self.versions, self.pins, retention or RetentionConfig())

    def _open(self, folder: Path, surface: str) -> Runner:
        self.opened.append(folder.name)
        return Runner.open(folder, surface)

    def look(self) -> str:
        """The folder that is served after a look."""
        self.pins.refresh()
        self.versions.refresh()
        return self.versions.served_folder("shop")

    def states(self) -> Mapping[str, str]:
        names = ("active", "previous", "pinned", "held")
        (shown,) = self.operations.shown("shop")
        return {
            v.folder: " ".join(name for name in names if getattr(v, f"is_{name}")) for v in shown.versions
        }


@pytest.fixture
def three(tmp_path: Path, publish_items: Publish) -> list[str]:
    """Names of folders, oldest first."""
    return [publish_items(tmp_path, seed=seed).name for seed in range(3)]


def test_a_roll_back_holds_against_publishes_and_restarts_until_it_is_ended(
    tmp_path: Path, three: list[str], publish_items: Publish
) -> None:
    one = Opened(tmp_path)
    assert one.look() == three[2]
    one.operations.roll_back("shop", "", "me", "empty answers")
    assert one.versions.served_folder("shop") == three[1]
    assert one.states() == {three[2]: "", three[1]: "active pinned", three[0]: "previous"}
    newest = publish_items(tmp_path, seed=3).name
    assert one.look() == three[1]
    # A server that starts now, or shares the store, serves the same.
    other = Opened(tmp_path)
    assert other.look() == three[1]
    assert other.opened == [three[1]]
    one.operations.follow("shop", "me", "")
    assert one.look() == other.look() == newest
    history = [(change.action, change.folder, change.why) for change in other.pins.history(10)]
    assert history == [(Action.FOLLOW, "", ""), (Action.ROLL_BACK, three[1], "empty answers")]


def test_another_server_follows_a_pin(tmp_path: Path, three: list[str]) -> None:
    one, other = Opened(tmp_path), Opened(tmp_path)
    assert one.look() == other.look() == three[2]
    one.operations.activate("shop", three[0], "me", "")
    assert other.look() == three[0]
    with pytest.raises(Unprepared, match="no version that is older"):
        one.operations.roll_back("shop", "", "me", "")


def test_what_is_refused_leaves_what_is_served_and_the_pin(tmp_path: Path, three: list[str]) -> None:
    one = Opened(tmp_path)
    one.look()
    spoil(tmp_path / "shop" / three[1])
    changes: tuple[Callable[[], object], ...] = (
        lambda: one.operations.roll_back("shop", "", "me", ""),
        lambda: one.operations.activate("shop", three[1], "me", ""),
        lambda: one.operations.load("shop", three[1]),
    )
    for change in changes:
        with pytest.raises(Unprepared, match=three[1]):
            change()
    assert one.look() == three[2]
    assert one.pins.current.surfaces == {}
    one.operations.roll_back("shop", three[0], "me", "")
    assert one.look() == three[0]


def test_a_pinned_version_that_cannot_be_loaded_at_a_start_is_replaced_by_an_older_one(
    tmp_path: Path, three: list[str]
) -> None:
    one = Opened(tmp_path)
    one.look()
    one.operations.roll_back("shop", "", "me", "")
    file = spoil(tmp_path / "shop" / three[1])
    # A server that serves goes on; one that starts must serve something, and nothing newer than the pin.
    assert one.look() == three[1]
    other = Opened(tmp_path)
    assert other.look() == three[0]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert Opened(tmp_path).look() == three[1]


def test_a_pin_that_cannot_be_written_changes_nothing(tmp_path: Path, three: list[str]) -> None:
    one = Opened(tmp_path)
    one.look()
    shutil.rmtree(tmp_path / ".serving", ignore_errors=True)
    (tmp_path / ".serving").write_text("no folder")
    with pytest.raises(NotDurable, match="nothing was changed"):
        one.operations.roll_back("shop", "", "me", "")
    assert one.versions.served_folder("shop") == three[2]


def test_what_was_loaded_is_activated_without_loading_it_again(tmp_path: Path, three: list[str]) -> None:
    one = Opened(tmp_path)
    one.look()
    one.operations.load("shop", three[0])
    assert one.states()[three[0]] == "held"
    assert one.look() == three[2]
    one.operations.activate("shop", three[0], "me", "")
    assert one.opened == [three[2], three[0]]
    assert one.states()[three[0]] == "active pinned"
    one.operations.load("shop", three[1])
    freed = weakref.ref(one.versions._held["shop"].runner)
    one.operations.unload("shop")
    gc.collect()
    assert freed() is None


def test_the_previous_version_is_held_where_that_is_set(
    tmp_path: Path, three: list[str], publish_items: Publish
) -> None:
    one = Opened(tmp_path, hold_previous=True)
    one.look()
    newest = publish_items(tmp_path, seed=3).name
    assert one.look() == newest
    assert one.states()[three[2]] == "previous held"
    one.operations.roll_back("shop", "", "me", "")
    assert one.opened == [three[2], newest]
    # What was rolled back from is not what the next roll-back goes to.
    assert one.versions.held_folder("shop") == ""


def test_without_room_what_is_held_is_given_up_and_what_is_served_stays(
    tmp_path: Path, three: list[str], publish_items: Publish
) -> None:
    room = [3]

    def check_room(folder: Path) -> None:
        if len(one.versions.runners) + bool(one.versions.held_folder("shop")) >= room[0]:
            raise SnapshotRefused(f"{folder}: takes too much") from MemoryError()

    one = Opened(tmp_path, check_room=check_room)
    assert one.look() == three[2]
    one.operations.load("shop", three[0])
    room[0] = 2
    one.operations.activate("shop", three[1], "me", "")
    assert one.versions.held_folder("shop") == ""
    room[0] = 1
    with pytest.raises(Unprepared, match="takes too much"):
        one.operations.activate("shop", three[0], "me", "")
    assert one.versions.served_folder("shop") == three[1]
    # Where nothing is served there is nothing to lose.
    room[0] = 0
    one = Opened(tmp_path, check_room=check_room)
    assert one.look() == three[1]


def test_versions_are_found_by_name_or_by_digits_of_their_hash(tmp_path: Path, three: list[str]) -> None:
    one = Opened(tmp_path)
    one.look()
    digits = one.versions.runner("shop").version
    for name in (three[2], digits, digits[:4], digits[:20]):
        assert one.operations.activate("shop", name, "me", "").name == three[2]
    for name in ("", digits[:3], digits + "0", "nothing"):
        with pytest.raises(UnknownName, match="has no version"):
            one.operations.activate("shop", name, "me", "")
    with pytest.raises(UnknownName, match="shop"):
        one.operations.activate("shopp", digits, "me", "")
    with pytest.raises(InvalidQuery, match="who"):
        one.operations.activate("shop", digits, "", "")
    one.operations.roll_back("shop", three[0], "me", "")
    with pytest.raises(InvalidQuery, match="is newer than the active"):
        one.operations.roll_back("shop", three[1], "me", "")


def test_deletion_spares_what_is_served_pinned_loaded_and_rolled_back_to(
    tmp_path: Path, three: list[str], publish_items: Publish
) -> None:
    more = [publish_items(tmp_path, seed=seed).name for seed in range(3, 7)]
    one = Opened(tmp_path)
    one.look()
    one.operations.roll_back("shop", more[1], "me", "")
    one.operations.load("shop", more[2])
    told = one.operations.delete("", [], 1, 0.0, "me", "", is_dry=True)
    assert [deleted.folder for deleted in told] == three
    assert all(deleted.disk_bytes > 0 for deleted in told)
    assert len(Store(tmp_path).published("shop")) == 7
    for name in (more[0], more[1], more[2]):
        with pytest.raises(Unprepared, match="it stays"):
            one.operations.delete("shop", [name], 0, 0.0, "me", "", is_dry=False)
    one.operations.delete("shop", [three[1]], 0, 0.0, "me", "one", is_dry=False)
    assert [d.folder for d in one.operations.delete("", [], 1, 0.0, "me", "", False)] == [three[0], three[2]]
    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == more
    assert one.pins.history(1)[0].action == Action.DELETE
    assert one.look() == more[1]


def test_settings_delete_by_themselves(tmp_path: Path, three: list[str], publish_items: Publish) -> None:
    one = Opened(tmp_path, RetentionConfig(keep=2))
    one.versions._on_look = one.operations.retain
    one.versions._refresh_or_log()
    assert [folder.name for folder in Store(tmp_path).published("shop")] == [three[2], three[1]]
    newest = publish_items(tmp_path, seed=5).name
    one.versions._refresh_or_log()
    assert [folder.name for folder in Store(tmp_path).published("shop")] == [newest, three[2]]
    assert one.operations.deleted == 2


def test_a_version_is_deleted_where_neither_number_nor_age_keeps_it() -> None:
    folders = [Path(f"2026010{day}T000000000000Z-0123456789ab") for day in (5, 4, 3, 2, 1)]
    now_s = published_s(folders[0]) + DAY_S / 2
    names = {folder.name for folder in folders}
    assert expired(folders, (), 2, 0.0, now_s) == folders[:1:-1]
    assert expired(folders, (), 1, 3.0, now_s) == folders[:2:-1]
    assert expired(folders, (), 0, 4.0, now_s) == folders[:3:-1]
    assert expired(folders, {folders[4].name}, 2, 0.0, now_s) == [folders[3], folders[2]]
    assert expired(folders, names, 1, 0.0, now_s) == []


def test_a_deletion_that_was_killed_is_ended_by_the_next(tmp_path: Path, three: list[str]) -> None:
    store = Store(tmp_path)
    left = tmp_path / "shop" / f".deleted-{three[0]}"
    (tmp_path / "shop" / three[0]).rename(left)
    assert len(store.published("shop")) == 2
    assert store.delete(tmp_path / "shop" / three[1])
    assert not left.exists()
    assert not store.delete(tmp_path / "shop" / three[1])
