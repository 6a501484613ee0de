"""One store, and every target on it for the whole suite."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.compat.conformance.shop import KEYS, publish_shop
from tests.compat.conformance.targets import TARGETS, Target, within


@pytest.fixture(scope="session")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    store: Path = tmp_path_factory.mktemp("conformance")
    publish_shop(store)
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        targets = pool.map(lambda start: stack.enter_context(start(store)), TARGETS.values())
        yield dict(zip(TARGETS, targets, strict=True))


@pytest.fixture(scope="session")
def keyed_targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    """On the shop whose ids are strings."""
    store: Path = tmp_path_factory.mktemp("keyed")
    publish_shop(store, KEYS)
    with within(store) as targets:
        yield targets


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, targets: dict[str, Target]) -> Target:
    return targets[request.param]


@pytest.fixture(params=TARGETS)
def keyed(request: pytest.FixtureRequest, keyed_targets: dict[str, Target]) -> Target:
    return keyed_targets[request.param]
