from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from meshfold.compat.mesh.settings import BEHIND, SETTINGS, MeshConfig, add_flags, flags_of, read_flags
from meshfold.model.errors import InvalidConfig


def parsed(flags: list[str]) -> MeshConfig:
    parser = argparse.ArgumentParser()
    add_flags(parser, (*SETTINGS, *BEHIND))
    return read_flags(parser.parse_args(flags))


@pytest.mark.parametrize(
    "of",
    [
        MeshConfig(),
        MeshConfig(
            surface="-shop",
            exact=True,
            candidates=7,
            indices=Path("an index"),
            threads=2,
            workers=3,
            timeout_s=0.25,
            tower="a:1",
            retrieval="b:2",
            scoring="c:3",
        ),
    ],
    ids=["defaults", "all set"],
)
def test_flags_carry_every_setting_from_one_process_to_another(of: MeshConfig) -> None:
    assert parsed(flags_of(of)) == of


def test_a_flag_that_is_not_given_leaves_the_default() -> None:
    assert parsed(["--timeout", "2"]) == MeshConfig(timeout_s=2.0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"candidates": -1}, "candidates must be at least 0, got -1"),
        ({"timeout_s": 0.0}, "timeout_s must be above 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        MeshConfig(**settings)
