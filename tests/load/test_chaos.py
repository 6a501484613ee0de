"""`make chaos` in short: another server of ours is the mesh, and everything is killed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.load.chaos import Chaos
from tests.service.conftest import publish_items, store

__all__ = ["publish_items", "store"]


@pytest.fixture
def chaos(store: Path, tmp_path: Path) -> Iterator[Chaos]:
    chaos = Chaos(store, "shop", ["serve", "--store", store, "--admin-address", "none"], tmp_path)
    yield chaos
    chaos.close()


def test_no_request_fails_that_either_side_could_have_answered(chaos: Chaos) -> None:
    moving, counted = chaos.switches_and_kills(switches=20, kills=1, up_s=0.5)
    assert moving.failures == Counter()
    assert moving.by == counted
    assert moving.by["mesh"] > 0
    assert moving.fallbacks["unavailable"] > 0

    killed = chaos.process_killed_in_canary(kills=1, up_s=0.5)
    assert killed.failures == Counter()
    assert killed.retries > 0
    assert {len(sides) for sides in killed.sides.values()} == {1}
    assert killed.by["mesh"] > 0
    assert killed.by["model"] > 0

    lost = chaos.without_the_model(0.5)
    assert (lost.failures, lost.by["model"]) == (Counter(), 0)
    assert 0 < lost.fallbacks["unavailable"] < lost.by["mesh"]
