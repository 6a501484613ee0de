"""Published snapshots and running servers for the tests of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshfold.compat import mesh_v1, meshfold_v1
from meshfold.model.build import publish
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.store import Store
from meshfold.service.config import ServerConfig
from meshfold.service.server import Server

ITEMS = 400
DIMENSION = 8
LANGUAGES = ("de", "en", "es")


def catalog(surface: str, seed: int, generated: bool) -> Catalog:
    """Items 10, 11, ...: random vectors, a language in turn, years 1900 + place, none for every tenth."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((ITEMS, DIMENSION)).astype(np.float32)
    years = [[1900 + i] if i % 10 else [] for i in range(ITEMS)]
    languages = [[LANGUAGES[i % 3]] for i in range(ITEMS)]
    schema = Schema(
        surface,
        (
            Field("title", FieldKind.TEXT),
            Field("language", FieldKind.CATEGORY),
            Field("year", FieldKind.INTEGER),
        ),
        ("like", "watch"),
        generated=generated,
    )
    return Catalog(
        schema=schema,
        item_ids=np.arange(10, 10 + ITEMS),
        columns={
            "language": Column.of_strings(FieldKind.CATEGORY, languages),
            "year": Column.of_integers(FieldKind.INTEGER, years),
        },
        vectors=lambda: iter([vectors]),
        dimension=DIMENSION,
        texts={"title": [f"{surface} {seed}.{i}" for i in range(ITEMS)]},
        popularity=np.linspace(1, 0, ITEMS, dtype=np.float32),
    )


Publish = Callable[..., Path]


@pytest.fixture(scope="session")
def publish_items() -> Publish:
    """(store folder, surface="shop", seed=0, generated=False) -> the folder of a new snapshot."""

    def publish_items(root: Path, surface: str = "shop", seed: int = 0, generated: bool = False) -> Path:
        return publish(catalog(surface, seed, generated), Store(root))

    return publish_items


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, publish_items: Publish) -> Path:
    """A store with one snapshot of the surface shop; not to be changed."""
    root = tmp_path_factory.mktemp("store")
    publish_items(root)
    return root


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """(store folder, settings) -> a running server on a free port, stopped at the end of the test."""
    servers: list[Server] = []

    def start(root: Path, **settings: Any) -> Server:
        given = {"address": "127.0.0.1:0", "poll_interval_s": 0.05, "shutdown_grace_s": 5.0, **settings}
        server = Server(ServerConfig(store=root, **given), (meshfold_v1, mesh_v1))
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def served(store: Path, start: Callable[..., Server]) -> Server:
    """A running server of the surface shop."""
    return start(store)
