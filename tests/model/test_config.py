import math
from collections.abc import Callable
from typing import Any

import pytest

from meshfold.model.config import IndexConfig, Merge
from meshfold.model.errors import InvalidConfig


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("clusters", 0, 2**20),
        ("iterations", 1, 1000),
        ("seed", 0, 2**63 - 1),
        ("target_recall", 0.0, 1.0),
        ("recall_depth", 1, 100_000),
        ("max_scan_share", 0.0, 1.0),
        ("candidates", 0, 1_000_000),
    ],
)
def test_values_within_their_bounds_are_taken_and_others_named(name: str, low: Any, high: Any) -> None:
    config: Callable[..., IndexConfig] = IndexConfig
    for value in (low, high):
        assert getattr(config(**{name: value}), name) == value
    fractions = [low + 0.5, 10.0] if isinstance(low, int) else []
    for value in [low - 1, high + 1, math.nan, math.inf, True, None, "7", *fractions]:
        with pytest.raises(InvalidConfig, match=f"^{name} must be "):
            config(**{name: value})


@pytest.mark.parametrize("items", [1, 2, 23, 24, 47, 48, 1000, 65_536, 10**6, 10**9])
@pytest.mark.parametrize("clusters", [0, 1, 100, 2**20])
def test_there_is_a_cluster_and_never_more_than_items(items: int, clusters: int) -> None:
    chosen = IndexConfig(clusters=clusters).clusters_of(items)
    assert 1 <= chosen <= items
    assert chosen == min(clusters, items) if clusters else chosen <= max(1, items // 24)


def test_json_holds_all_of_it() -> None:
    config = IndexConfig(clusters=7, seed=3, target_recall=0.5, merge=Merge.INTERSECTION)
    assert IndexConfig.from_json(config.to_json()) == config
    assert IndexConfig.from_json(config.to_json()).merge is Merge.INTERSECTION


@pytest.mark.parametrize(
    ("change", "error"),
    [({"merge": "both"}, ValueError), ({"clusters": -1}, InvalidConfig), ({"seed": 2**63}, InvalidConfig)],
)
def test_json_of_another_shape_is_refused(change: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        IndexConfig.from_json(IndexConfig().to_json() | change)


def test_json_that_lacks_a_setting_is_refused() -> None:
    raw = IndexConfig().to_json()
    del raw["candidates"]
    with pytest.raises(KeyError, match="candidates"):
        IndexConfig.from_json(raw)
