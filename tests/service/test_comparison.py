from __future__ import annotations

from typing import Any

import pytest

from meshfold.model.errors import InvalidConfig
from meshfold.service.comparison import ComparisonConfig


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("share", 1.5, "share must be 0 to 1, got 1.5"),
        ("share", float("nan"), "share must be 0 to 1, got nan"),
        ("canary_share", -0.1, "canary_share must be 0 to 1"),
        ("noise_share", 2.0, "noise_share must be 0 to 1"),
        ("surface_shares", "feed=2", "surface_shares of feed must be 0 to 1, got 2.0"),
        ("surface_shares", "feed=1,search", "surface_shares must be surface=share, .* got 'search'"),
        ("surface_shares", "=1", "surface_shares must be surface=share"),
        ("surface_shares", "feed=much", "surface_shares must be surface=share"),
        ("pairs_per_s", 0.0, "pairs_per_s must be above 0"),
        ("noise_width", float("inf"), "noise_width must be above 0"),
        ("noise_delay_s", 601.0, "noise_delay_s must be 0 to 600"),
        ("noise_budget", 0, "noise_budget must be at least 1"),
        ("noise_waiting", 0, "noise_waiting must be at least 1"),
        ("queue", 0, "queue must be at least 1"),
        ("bytes", 1000, "bytes must be at least 1048576, got 1000"),
        ("age_s", 0.0, "age_s must be above 0"),
        ("file_age_s", -1.0, "file_age_s must be above 0"),
    ],
)
def test_a_setting_that_does_not_fit_says_so(setting: str, value: Any, said: str) -> None:
    with pytest.raises(InvalidConfig, match=f"comparison.{said}"):
        ComparisonConfig(**{setting: value})


def test_lists_are_read_and_a_surface_without_a_share_of_its_own_has_the_common_one() -> None:
    config = ComparisonConfig(
        surface_shares="feed=0.05, a=b=1", omit="filter, slices", features="country,device"
    )
    assert config.shares == {"feed": 0.05, "a=b": 1.0}
    assert (config.omitted, config.slice_features) == (("filter", "slices"), ("country", "device"))
