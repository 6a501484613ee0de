"""Published snapshots and running servers for the tests of the service."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshfold.commands.__main__ import ADAPTERS, main
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
def store(tmp_path_factory: pytest.TempPathFactory, publish_items: Publish) -> Iterator[Path]:
    """A store with one snapshot of the surface shop. All tests share it: publish into a store of your own."""
    root = tmp_path_factory.mktemp("store")
    folder = publish_items(root)
    yield root
    assert list((root / "shop").iterdir()) == [folder], "a test changed the store that all tests share"


SHOP_SCHEMA = """
surface = "shop"
exclude_history = false
[items]
source = "items.csv"
id = "id"
popularity = "sold"
[fields]
title.kind = "text"
language.kind = "category"
tags = { kind = "categories", separator = ";" }
year.kind = "integer"
price.kind = "number"
[inputs]
country.kind = "strings"
search = { kind = "text", length = 4 }
ages = { kind = "ints", length = 2 }
clock = { kind = "floats", length = 2 }
[tasks.like]
[tasks.watch]
"""
SHOP_FORMULAS = """
[weights]
like = { default = LIKE, min = 0.0, max = 2.0 }
age = { default = 0.0, min = -1.0, max = 1.0 }
[formulas]
default = "mixed"
mixed = "weights.like * like + watch"
cheap = "-price"
recent = "(has(year) ? year : 1900) + weights.age * features.hour"
division = "1 / (price - price)"
"""
TOWERS = Path(__file__).resolve().parent.parent / "data" / "towers" / "towers.py"


def write_shop(folder: Path, formulas: str) -> None:
    """1,500 items 5, 8, 11, ..., the most sold first, without vectors."""
    rng = np.random.default_rng(0)
    rows = ["id,sold,title,language,tags,year,price"]
    for i in range(1500):
        tags = ";".join(f"t{t}" for t in rng.integers(0, 40, 2))
        year = "" if i % 9 == 0 else 1950 + i % 70
        price = "" if i % 11 == 0 else f"{rng.random() * 9:.3f}"
        rows.append(f"{i * 3 + 5},{1500 - i},Title {i},{LANGUAGES[i % 3]},{tags},{year},{price}")
    (folder / "items.csv").write_text("\n".join(rows))
    (folder / "schema.toml").write_text(SHOP_SCHEMA + formulas)


@pytest.fixture(scope="session")
def build_shop(tmp_path_factory: pytest.TempPathFactory) -> Publish:
    """(store=a new one, formulas=True, like=0.5, **towers of tests/data/towers) -> the folder of a snapshot that
    `meshfold build` made; data and source of the towers are gone."""

    def build_shop(
        store: Path | None = None, formulas: bool = True, like: float = 0.5, **towers: str
    ) -> Path:
        work = tmp_path_factory.mktemp("work")
        store = store or tmp_path_factory.mktemp("store")
        write_shop(work, SHOP_FORMULAS.replace("LIKE", str(like)) if formulas else "")
        (work / "package_of_a_test").mkdir()
        (work / "package_of_a_test" / "towers.py").write_bytes(TOWERS.read_bytes())
        named = {"item_tower": "Items", **towers}
        flags = [f"--{f.replace('_', '-')}=package_of_a_test.towers:{name}" for f, name in named.items()]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(work)
            patch.setattr(sys, "path", [*sys.path])
            assert main(["build", str(work), "--store", str(store), *flags]) == 0
        for name in [n for n in sys.modules if n.partition(".")[0] == "package_of_a_test"]:
            del sys.modules[name]
        shutil.rmtree(work)
        (folder,) = Store(store).published("shop")
        return folder

    return build_shop


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """(store folder, settings) -> a running server on a free port, stopped at the end of the test."""
    servers: list[Server] = []

    def start(root: Path, **settings: Any) -> Server:
        # A busy machine refuses nothing for a wait that a test does not ask about.
        given = {
            "address": "127.0.0.1:0",
            "poll_interval_s": 0.05,
            "shutdown_grace_s": 5.0,
            "queue_s": 60.0,
            **settings,
        }
        server = Server(ServerConfig(store=root, **given), ADAPTERS)
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
