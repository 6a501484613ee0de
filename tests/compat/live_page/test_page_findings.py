"""What the page's own process finds in files of pairs, and how the server asks for it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.waiting import wait_until

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from meshfold.compat.live_page import background
from meshfold.compat.live_page.background import Background
from meshfold.compat.live_page.findings import find
from meshfold.compat.live_page.job import Found, Job
from meshfold.compat.live_page.newest_pairs import NewestPairs
from meshfold.compat.shadow.comparison_folder import CompareInputs, write_comparison
from meshfold.compat.shadow.pair_limits import PairLimits
from meshfold.compat.shadow.pair_writer import PairWriter
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.compat.shadow.skipped import Skipped
from tests.compat.shadow.conftest import build_shop, publish_items, store

__all__ = ["build_shop", "publish_items", "store"]

BEGIN_MS = 1_796_000_000_000


def pairs(count: int = 60, surface: str = "shop", start: int = 0) -> list[Pair]:
    """A pair a minute; each model lacks the mesh's last item of ten."""
    chance = random.Random(start)
    made = []
    for number in range(start, start + count):
        ids = tuple(chance.sample(range(1, 90), 11))
        made.append(
            Pair(
                f"r{number}",
                surface,
                user_key=f"somebody-{number % 25}",
                unix_ms=BEGIN_MS + 60_000 * number,
                mesh=SideAnswer(ids[:10], latency_ms=20),
                model=SideAnswer((*ids[:9], ids[10]), latency_ms=5),
                again=SideAnswer(ids[:10]) if number % 2 else None,
                filter="",
                slices={"country": "PT" if number % 2 else "NZ"},
            )
        )
    return made


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(*files: list[Pair]) -> Path:
        """A file each."""
        for of_file in files:
            writer = PairWriter(
                tmp_path / "pairs", PairLimits(bytes=1 << 40, age_s=float("inf")), lambda pair: pair
            )
            for pair in of_file:
                writer.append(pair)
            writer.close()
            # Names tell the age, in milliseconds.
            time.sleep(0.002)
        return tmp_path / "pairs"

    return written


def test_figures_over_time_out_of_files(write: Callable[..., Path]) -> None:
    place = write(pairs(40), [*pairs(20, start=40), *pairs(5, "other")])
    found = find(Job(str(place)))
    assert found.caption.startswith(f"All 65 pairs of {place}, 2026-")
    other, shop = Found.read(found.told()).surfaces
    assert (other.name, shop.name) == ("other", "shop")
    assert shop.tally.pairs == {"compared": 60}
    assert shop.tally.recent["overlap"] == pytest.approx(0.9)
    assert shop.tally.recent["excess_overlap"] == pytest.approx(-0.1)
    assert sum(point.pairs for point in shop.points) == 60
    assert shop.points[0].begin_s == BEGIN_MS // 10_000 * 10
    assert all(point.overlap == pytest.approx(0.9) for point in shop.points)


def test_points_get_longer_where_they_are_many(write: Callable[..., Path]) -> None:
    (shop,) = find(Job(str(write(pairs(700))))).surfaces
    assert 150 <= len(shop.points) <= 300
    assert sum(point.pairs for point in shop.points) == 700
    assert {point.width_s for point in shop.points} == {160.0}


def test_the_newest_pairs_of_a_rare_surface_are_found(write: Callable[..., Path]) -> None:
    place = write(pairs(10, "rare"), *(pairs(30, start=30 * n) for n in range(6)))
    rare = NewestPairs(place, "rare", 8)
    assert len(list(rare())) == 8
    assert not rare.is_all
    newest = NewestPairs(place, "shop", 40)
    ids = [pair.request_id for pair in newest()]
    # Whole files, in the order of time.
    assert ids[0] == "r120"
    assert len(ids) == 40
    assert not newest.is_all
    everything = NewestPairs(place, None, 1000)
    assert len(list(everything())) == 190
    assert everything.is_all


def test_a_file_that_is_damaged_or_goes_is_counted(write: Callable[..., Path]) -> None:
    place = write(pairs(10), pairs(10, start=10), pairs(10, start=20))
    files = sorted(place.iterdir())
    files[0].write_bytes(files[0].read_bytes()[:100])
    newest = NewestPairs(place, None, 1000)
    files[1].unlink()
    assert len(list(newest())) == 10
    assert newest.skipped.counted["files that cannot be read"] == 2


def test_details_show_a_report_with_titles_and_nothing_of_a_user(
    write: Callable[..., Path], store: Path
) -> None:
    place = write(pairs(60))
    found = find(Job(str(place), str(store), "shop"))
    assert found.caption.startswith("All pairs in files: 60 pairs, 2026-")
    for heading in ("Agreement", "Latency", "Exposure", "Causes", "Slices", "Examples"):
        assert f">{heading}</h3>" in found.html
    assert "somebody-" not in found.html
    assert "country" in found.html
    # Items of the store have titles.
    assert "shop 0." in found.html
    assert found.html.count("<details") == 5


def test_a_comparison_shows_its_own_figures(tmp_path: Path) -> None:
    compared = tmp_path / "compared"
    write_comparison(compared, pairs(60), CompareInputs(("somewhere",)), Skipped())
    (shop,) = find(Job(str(compared))).surfaces
    assert shop.tally.recent["excess_overlap"] == pytest.approx(-0.1)
    details = find(Job(str(compared), surface="shop"))
    assert details.caption.startswith("This comparison: 60 pairs")
    assert "Agreement over rank" in details.html


def test_what_cannot_be_found_is_told(tmp_path: Path, write: Callable[..., Path]) -> None:
    assert find(Job(str(tmp_path / "gone"))).caption == f"{tmp_path / 'gone'} is not there."
    place = write(pairs(3))
    assert "no pairs of this surface yet" in find(Job(str(place), surface="other")).caption
    damaged = find(Job(str(place), str(tmp_path / "no-store"), "shop"))
    assert "no-store cannot be read as a store" in damaged.caption
    assert "Agreement" in damaged.html


def test_the_process_works_in_the_background_and_again_where_files_changed(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_SHARE", 1e9)
    place = write(pairs(20))
    work = Background(Job(str(place)), least_s=0.0)
    try:
        assert work.found(None) is None
        wait_until(lambda: work.found(None) is not None)
        first = work.found(None)
        assert first is not None
        assert first.surfaces[0].tally.pairs["compared"] == 20
        # The same files are read once.
        time.sleep(0.05)
        assert work.found(None) is first
        write(pairs(5, start=20))
        wait_until(lambda: (now := work.found(None)) is not None and now is not first)
        again = work.found(None)
        assert again is not None
        assert again.surfaces[0].tally.pairs["compared"] == 25
    finally:
        work.stop()


def test_a_process_that_is_killed_or_stopped_leaves_the_page(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write(pairs(20))
    monkeypatch.setattr(background, "_MODULE", "meshfold.compat.no_such_module")
    work = Background(Job(str(place)), least_s=60.0)
    wait_until(lambda: work.found(None) is not None)
    found = work.found(None)
    assert found is not None
    assert found.caption == "This could not be computed: its process ended with status 1."
    work.stop()
    monkeypatch.undo()
    stopped = Background(Job(str(place)), least_s=60.0)
    stopped.found(None)
    wait_until(lambda: stopped._process is not None)
    stopped.stop()
    ended = stopped.found(None)
    assert ended is not None
    assert ended.caption.endswith("its process ended with signal 9.")
