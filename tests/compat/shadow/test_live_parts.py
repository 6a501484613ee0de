"""Sampling, budgets, shares, figures and catalogs of live comparison, without a server."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import grpc
import pytest
from google.protobuf.proto import parse_length_prefixed

from meshfold.compat.shadow.compare_settings import MeasureSettings
from meshfold.compat.shadow.live.asked_pair import frames
from meshfold.compat.shadow.live.budget import Budget
from meshfold.compat.shadow.live.catalogs import Catalogs
from meshfold.compat.shadow.live.noise_share import GROWTH_S, NoiseShare
from meshfold.compat.shadow.live.recent import LATEST, Recent
from meshfold.compat.shadow.live.sampling import Sampling, asks_again
from meshfold.compat.shadow.live.tally import BUCKETS, Tally
from meshfold.compat.shadow.pair_measures import measure
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.protos.mesh.v1 import orchestrator_pb2 as mesh_pb
from meshfold.protos.meshfold.v1 import recording_pb2 as pb
from meshfold.service.comparison import ComparisonConfig
from meshfold.service.front import Outcome, Side
from tests.compat.shadow.live_world import pair
from tests.service.conftest import publish_items, store

__all__ = ["publish_items", "store"]


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def message(request_id: str, user_id: int = 0) -> bytes:
    encoded: bytes = mesh_pb.RetrieveRequest(
        request_id=request_id, user={"user_id": user_id}
    ).SerializeToString()
    return encoded


def test_the_same_calls_are_compared_at_every_start_and_on_every_server() -> None:
    sampling = Sampling(ComparisonConfig(share=0.25))
    taken = [n for n in range(40) if sampling.takes("feed", message(f"r{n}"))]
    assert taken == [0, 7, 19, 22, 32]
    # Whoever asks, and whatever else a request says.
    assert taken == [n for n in range(40) if sampling.takes("other", message(f"r{n}", user_id=n + 1))]


def test_a_larger_share_takes_all_of_a_smaller_one_and_about_its_part() -> None:
    messages = [message(f"r{n}") for n in range(2000)]
    small, large = (
        {m for m in messages if Sampling(ComparisonConfig(share=s)).takes("", m)} for s in (0.1, 0.4)
    )
    assert small < large
    assert 0.08 < len(small) / 2000 < 0.12
    assert 0.37 < len(large) / 2000 < 0.43
    again = {m for m in messages if asks_again(0.1, m)}
    assert again < {m for m in messages if asks_again(0.4, m)}
    # Second asks are a sample of their own, not the first of what is compared.
    assert 0.2 < len(again & large) / len(again) < 0.6


def test_a_surface_may_have_a_share_of_its_own_and_bytes_stand_for_themselves() -> None:
    sampling = Sampling(ComparisonConfig(share=0.0, surface_shares="feed=1, search=0.5"))
    unnamed = [bytes([255, n]) for n in range(200)]
    assert all(sampling.takes("feed", m) for m in unnamed)
    assert 70 < sum(sampling.takes("search", m) for m in unnamed) < 130
    assert not any(sampling.takes("other", m) for m in unnamed)


def test_a_budget_is_a_rate_with_a_burst() -> None:
    clock = Clock()
    budget = Budget(2.0, 3, clock)
    assert [budget.take() for _ in range(5)] == [True, True, True, False, False]
    clock.now_s = 0.5
    assert [budget.take() for _ in range(2)] == [True, False]
    clock.now_s = 1000.0
    assert sum(budget.take() for _ in range(10)) == 3


def test_the_share_of_second_asks_grows_while_the_interval_is_wide() -> None:
    clock = Clock()
    shares = NoiseShare(0.4, 0.02, clock)
    assert shares.of("feed") == 0.4 / 16
    # Not before what it gives was looked at.
    shares.update("feed", 0.5)
    assert shares.of("feed") == 0.4 / 16
    for expected, width in ((1 / 8, None), (1 / 4, 0.03), (1 / 4, 0.02), (1 / 2, 0.021), (1, 1.0), (1, 1.0)):
        clock.now_s += GROWTH_S
        shares.update("feed", width)
        assert shares.of("feed") == pytest.approx(0.4 * expected)
    assert shares.of("search") == 0.4 / 16


def test_a_pair_goes_over_whole_and_its_shadow_ends_it() -> None:
    again = Outcome(Side.MESH, None, grpc.StatusCode.UNAVAILABLE, 0.5)
    came = BytesIO(frames(replace(pair(7), again=again), server=1 << 32))
    records = [parse_length_prefixed(pb.Recorded, came) for _ in range(4)]
    assert records.pop() is None
    assert [(r.side, r.shadow, r.again, r.code) for r in records] == [
        ("mesh", False, False, 0),
        ("mesh", True, True, 14),
        ("model", True, False, 0),
    ]
    assert {r.call for r in records} == {(1 << 32) + 7}
    assert [bool(r.request) for r in records] == [True, False, False]


def compared(user: str, mesh: tuple[int, ...], model: tuple[int, ...], again: tuple[int, ...] = ()) -> Pair:
    return Pair(
        "r",
        user_key=user,
        mesh=SideAnswer(mesh, latency_ms=10.0),
        model=SideAnswer(model, latency_ms=4.0),
        again=SideAnswer(again) if again else None,
    )


def test_figures_are_means_over_users_of_the_latest_pairs() -> None:
    recent = Recent()
    same, half = (1, 2), (1, 3)
    for made in (compared("a", same, same), compared("a", same, same), compared("b", same, half)):
        recent.add(made, measure(made, MeasureSettings()))
    figures = recent.figures()
    assert figures["overlap"] == 0.75
    assert figures["latency_p50_s"] == pytest.approx(-0.006)
    assert "noise_overlap" not in figures
    # The mesh agrees with itself half as often as with the model.
    for user in range(20):
        made = compared(str(user), same, same, half)
        recent.add(made, measure(made, MeasureSettings()))
    figures = recent.figures()
    assert (figures["noise_overlap"], figures["excess_overlap"], figures["noise_width"]) == (0.5, 0.5, 0.0)
    late = compared("c", same, (8, 9))
    for _ in range(LATEST):
        recent.add(late, measure(late, MeasureSettings()))
    assert recent.figures()["overlap"] == 0


def test_of_few_users_there_is_no_interval() -> None:
    recent = Recent()
    made = compared("a", (1, 2), (1, 2), (1, 3))
    recent.add(made, measure(made, MeasureSettings()))
    figures = recent.figures()
    assert "noise_width" not in figures
    assert all(math.isfinite(value) for value in figures.values())


def test_reports_add_up() -> None:
    told, total = Tally(), Tally()
    for value in (0.05, 0.5, 1.0, 1.0):
        told.distributions["overlap"].add(value)
    told.pairs["compared"] += 4
    told.violations["mesh"] += 2
    told.recent = {"overlap": 0.6}
    for _ in range(2):
        total.add(told.told())
    assert total.pairs == {"compared": 8}
    assert total.violations["mesh"] == 4
    assert total.distributions["overlap"].total == pytest.approx(5.1)
    counts = total.distributions["overlap"].counts
    assert (counts[0], counts[BUCKETS.index(0.5)], counts[BUCKETS.index(1.0)], sum(counts)) == (2, 2, 4, 8)
    assert total.recent == {"overlap": 0.6}


def test_a_catalog_is_that_of_the_version_that_answered(
    tmp_path: Path, publish_items: Callable[..., Path]
) -> None:
    clock = Clock()
    catalogs = Catalogs(tmp_path, clock)
    assert catalogs.of("shop", "none yet") is None

    def published(seed: int) -> str:
        publish_items(tmp_path, seed=seed)
        return Snapshot.open(Store(tmp_path).published("shop")[0], "shop").version

    first = published(0)
    # A store is looked at again after a while, not for every pair.
    assert catalogs.of("shop", first) is None
    clock.now_s += 60
    opened = catalogs.of("shop", first)
    assert opened is not None
    assert catalogs.of("shop", first) is opened
    second = published(1)
    clock.now_s += 60
    other = catalogs.of("shop", second)
    assert other is not None
    assert other.snapshot.version == second != first
    clock.now_s += 60
    assert catalogs.of("shop", first) is None
    assert catalogs.of("shop", "") is None
