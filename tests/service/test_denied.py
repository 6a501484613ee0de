from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshfold.model.errors import InvalidConfig, InvalidQuery, NotDurable, UnknownName
from meshfold.service import denied as module
from meshfold.service.denied import MOST_DENIED, MOST_IDS, Denied


def eventually(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Denied, Denied]]:
    """Of two servers that share a file."""
    both = Denied(tmp_path / "denied.json"), Denied(tmp_path / "denied.json")
    for denied in both:
        denied.start()
    yield both
    for denied in both:
        denied.stop()


def test_what_is_denied_is_in_effect_here_at_once_there_soon_and_after_a_restart(
    two: tuple[Denied, Denied], tmp_path: Path
) -> None:
    here, there = two
    here.deny("", ["1", "2"], "me", "why")
    here.deny("feed", ["2", "3", "3"], "me", "")
    assert here.of("feed") == ("1", "2", "3")
    assert here.of("shop") == ("1", "2")
    assert here.of("shop") is here.of("shop")
    eventually(lambda: there.of("feed") == ("1", "2", "3"))
    there.undo("feed", ["2"], "you", "")
    eventually(lambda: len(here.current) == 3)
    assert here.of("feed") == ("1", "2", "3")
    again = Denied(tmp_path / "denied.json")
    assert again.current.takedowns == there.current.takedowns
    assert [(c["action"], c["surface"], c["item_ids"]) for c in again.history(10)] == [
        ("undo", "feed", ["2"]),
        ("deny", "feed", ["2", "3"]),
        ("deny", "", ["1", "2"]),
    ]


def test_denying_again_changes_nothing(tmp_path: Path) -> None:
    denied = Denied(tmp_path / "denied.json")
    denied.deny("", ["1"], "me", "first")
    assert denied.deny("", ["1"], "me", "again").generation == 1
    assert [c["why"] for c in denied.history(10)] == ["first"]


def test_a_change_of_a_list_that_another_emptied_brings_nothing_back(tmp_path: Path) -> None:
    here = Denied(tmp_path / "denied.json")
    here.deny("", ["1"], "me", "")
    there = Denied(tmp_path / "denied.json")
    here.undo("", ["1"], "me", "")
    assert there.deny("", ["2"], "me", "").generation == 3
    assert there.of("feed") == ("2",)


def test_what_is_not_denied_cannot_be_undone(tmp_path: Path) -> None:
    denied = Denied(tmp_path / "denied.json")
    denied.deny("feed", ["1"], "me", "")
    with pytest.raises(UnknownName, match=r"item '1' is not denied on every surface; it is on surface feed"):
        denied.undo("", ["1"], "me", "")
    assert denied.of("feed") == ("1",)


@pytest.mark.parametrize(
    ("surface", "ids", "who", "path"),
    [
        ("", [], "me", "item_ids"),
        ("", ["1"] * (MOST_IDS + 1), "me", "item_ids"),
        ("", [""], "me", r"item_ids\[0\]"),
        ("", ["1", "x" * 1025], "me", r"item_ids\[1\]"),
        ("", ["1"], "", "who"),
        ("x" * 1001, ["1"], "me", "surface"),
    ],
)
def test_what_is_no_takedown_is_refused_by_its_path(
    tmp_path: Path, surface: str, ids: list[str], who: str, path: str
) -> None:
    denied = Denied(tmp_path / "denied.json")
    with pytest.raises(InvalidQuery, match=f"^{path}: "):
        denied.deny(surface, ids, who, "")
    assert len(denied.current) == 0


def test_the_list_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_DENIED", 3)
    denied = Denied(tmp_path / "denied.json")
    denied.deny("", ["1", "2"], "me", "")
    with pytest.raises(InvalidQuery, match="2 items are denied, and at most 3 may be"):
        denied.deny("", ["2", "3", "4"], "me", "")
    denied.deny("", ["2", "3"], "me", "")
    assert denied.of("") == ("1", "2", "3")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"format": 2}',
        '{"format": 1, "generation": 1, "takedowns": [3], "last": {}}',
        '{"format": 1, "generation": 1, "takedowns": [], "last": []}',
    ],
)
def test_a_server_does_not_start_without_the_list_that_it_cannot_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "denied.json").write_text(content)
    with pytest.raises(InvalidConfig, match=r"holds no denied items: .*put back a copy, or remove it"):
        Denied(tmp_path / "denied.json")


def test_a_list_that_is_damaged_or_gone_later_stays_in_effect_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "denied.json"
    denied = Denied(path)
    denied.start()
    denied.deny("", ["1"], "me", "")
    path.write_text("nothing")
    eventually(lambda: "holds no denied items" in denied.trouble)
    with pytest.raises(NotDurable, match="nothing was changed"):
        denied.deny("", ["2"], "me", "")
    path.unlink()
    eventually(lambda: "is gone" in denied.trouble)
    assert denied.of("feed") == ("1",)
    denied.deny("", ["2"], "me", "")
    assert denied.trouble == ""
    assert json.loads(path.read_text())["generation"] == 2
    denied.stop()


def test_writers_at_once_lose_no_takedown(two: tuple[Denied, Denied]) -> None:
    def deny(place: int) -> None:
        for i in range(5):
            while True:
                try:
                    two[place].deny("", [f"{place}.{i}"], "me", "")
                    break
                except NotDurable:  # a busy disk
                    continue

    threads = [threading.Thread(target=deny, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: len(two[0].current) == len(two[1].current) == 10)
    assert len(two[0].history(100)) == 10


def test_as_many_as_there_may_be_are_read_again(tmp_path: Path) -> None:
    denied = Denied(tmp_path / "denied.json")
    for start in range(0, 30_000, MOST_IDS):
        denied.deny("", [str(i) for i in range(start, start + MOST_IDS)], "me", "")
    assert len(Denied(tmp_path / "denied.json").of("feed")) == 30_000
    assert MOST_DENIED == 100_000
    assert [len(change["item_ids"]) for change in denied.history(2)] == [MOST_IDS, MOST_IDS]
