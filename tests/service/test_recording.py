from __future__ import annotations

from typing import Any

import pytest

from meshfold.model.errors import InvalidConfig
from meshfold.service.recording import RecordingConfig


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("bytes", 1000, "bytes must be at least 1048576, got 1000"),
        ("age_s", 0.0, "age_s must be above 0"),
        ("age_s", float("nan"), "age_s must be above 0"),
        ("user_ids", "drop", "user_ids must be one of hash, omit, keep, got 'drop'"),
        ("omit", "history;features", "omit names history, features or both"),
        ("queue", 0, "queue must be at least 1"),
    ],
)
def test_a_setting_that_does_not_fit_says_so(setting: str, value: Any, said: str) -> None:
    with pytest.raises(InvalidConfig, match=f"recording.{said}"):
        RecordingConfig(**{setting: value})


def test_what_is_omitted_is_a_list() -> None:
    assert RecordingConfig(omit="history, features").omitted == ("history", "features")
    assert RecordingConfig().omitted == ()
