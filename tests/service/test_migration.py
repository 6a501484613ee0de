from __future__ import annotations

from typing import Any

import grpc
import pytest

from meshfold.model.errors import InvalidConfig
from meshfold.service.migration import COMPRESSIONS, MigrationConfig


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("first_share", 1.0, "between 0 and 1, got 1.0"),
        ("compression", "br", "one of none, deflate, gzip, got 'br'"),
        ("shadow_queue", 0, "at least 1, got 0"),
        ("shadow_threads", 0, "at least 1, got 0"),
        ("shadow_timeout_s", 0.0, "above 0 and below a day, got 0.0"),
        ("mesh_waiting", 0, "at least 1, got 0"),
        ("mesh_timeout_s", 0.0, "above 0 and below a day, got 0.0"),
        ("mesh_timeout_s", float("nan"), "above 0 and below a day, got nan"),
    ],
)
def test_a_setting_that_does_not_fit_says_so(setting: str, value: Any, said: str) -> None:
    with pytest.raises(InvalidConfig, match=f"migration.{setting} must be {said}"):
        MigrationConfig(**{setting: value})


def test_the_compressions_are_those_of_grpc() -> None:
    assert {grpc.Compression[member] for member in COMPRESSIONS.values()} == set(grpc.Compression)
