"""One store, and every target on it for the whole suite."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.compat.conformance.shop import publish_shop
from tests.compat.conformance.targets import TARGETS, Target


@pytest.fixture(scope="session")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    store: Path = tmp_path_factory.mktemp("conformance")
    publish_shop(store)
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        started = pool.map(lambda start: stack.enter_context(start(store)), TARGETS.values())
        yield dict(zip(TARGETS, started, strict=True))


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, targets: dict[str, Target]) -> Target:
    return targets[request.param]
