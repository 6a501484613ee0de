"""What tests of filters share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meshfold.kernels.native import library


@pytest.fixture(params=library.levels())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test with each set of instructions that the machine has, and with the reference."""
    with library.forced(request.param):
        yield request.param
