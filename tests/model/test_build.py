from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meshfold.kernels.native import library
from meshfold.kernels.vectors.quantize import quantize
from meshfold.model import build
from meshfold.model.build import publish
from meshfold.model.config import IndexConfig
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.data.generated import item_vectors
from meshfold.model.errors import InvalidData
from meshfold.model.filter import index as filter_index
from meshfold.model.index import calibration
from meshfold.model.index.kmeans import Centroids, assign
from meshfold.model.schema import Field, FieldKind
from meshfold.model.snapshot import TENSOR_FILES, Snapshot
from meshfold.model.store import Store
from meshfold.model.types import Float32s

CatalogOf = Callable[..., Catalog]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def normal(n: int, d: int = 8, seed: int = 0) -> Float32s:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def built(catalog: Catalog, root: Path, config: IndexConfig | None = None) -> Snapshot:
    return Snapshot.open(publish(catalog, Store(root), config), catalog.schema.surface)


def test_every_item_is_there_once_with_its_own_values(catalog_of: CatalogOf, tmp_path: Path) -> None:
    ids = np.random.default_rng(1).permutation(np.arange(-350, 350)) * 10**15
    vectors = normal(700)
    catalog = catalog_of(vectors, ids)
    snapshot = built(catalog, tmp_path)
    index, items = snapshot.index, snapshot.items
    rows = index["rows"].numpy()
    assert sorted(rows.tolist()) == list(range(700))
    assert items["item_ids"].tolist() == sorted(ids.tolist())
    assert (rows[items["positions"].numpy()] == np.arange(700)).all()

    place = {item: i for i, item in enumerate(ids.tolist())}
    places = np.array([place[i] for i in items["item_ids"].numpy()[rows].tolist()])
    wanted = quantize(torch.from_numpy(vectors[places]))
    assert torch.equal(index["codes"], wanted.codes)
    assert torch.equal(index["residuals"], wanted.residuals)
    assert torch.equal(index["units"], wanted.scales)
    assert items["popularity"].numpy() == pytest.approx(catalog.popularity[places] / catalog.popularity.max())
    assert [snapshot.texts()["title"][p] for p in range(700)] == [catalog.texts["title"][p] for p in places]

    popular = items["popular"].numpy()
    by_popularity = sorted(range(700), key=lambda p: (-items["popularity"][p].item(), rows[p]))
    assert popular.tolist() == by_popularity


def test_items_lie_in_their_nearest_cluster_in_the_order_of_ids(
    catalog_of: CatalogOf, tmp_path: Path
) -> None:
    snapshot = built(catalog_of(normal(3000)), tmp_path)
    index = snapshot.index
    offsets = index["offsets"].tolist()
    assert (offsets[0], offsets[-1], len(offsets)) == (0, 3000, snapshot.content.clusters + 1)
    members = assign(
        index["codes"], index["units"], Centroids(index["centroids"], index["centroid_units"])
    ).members
    assert torch.equal(
        members, torch.repeat_interleave(torch.arange(len(offsets) - 1), index["offsets"].diff())
    )
    for start, end in zip(offsets, offsets[1:], strict=False):
        assert index["rows"][start:end].tolist() == sorted(index["rows"][start:end].tolist())


def test_near_clusters_follow_one_another(catalog_of: CatalogOf, tmp_path: Path) -> None:
    vectors = np.concatenate(list(item_vectors(20_000, 16)))
    index = built(catalog_of(vectors), tmp_path).index
    centroids = index["centroids"].double() * index["centroid_units"].double()[:, None]
    drawn = centroids[torch.from_numpy(np.random.default_rng(0).permutation(len(centroids)))]
    apart, drawn_apart = (float(c.diff(dim=0).norm(dim=1).mean()) for c in (centroids, drawn))
    assert apart < 0.7 * drawn_apart


def test_any_number_of_threads_gives_the_same_version(catalog_of: CatalogOf, tmp_path: Path) -> None:
    vectors = np.concatenate(list(item_vectors(20_000, 48)))
    versions = set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        versions.add(built(catalog_of(vectors), tmp_path / str(threads)).version)
    assert len(versions) == 1


def test_any_kernels_give_the_same_version(catalog_of: CatalogOf, tmp_path: Path) -> None:
    catalog = catalog_of(np.concatenate(list(item_vectors(20_000, 48))))
    versions = set()
    for level in library.levels():
        with library.forced(level):
            versions.add(built(catalog, tmp_path / level, IndexConfig(iterations=2)).version)
    assert len(versions) == 1


def test_the_chunks_of_the_vectors_do_not_change_the_version(catalog_of: CatalogOf, tmp_path: Path) -> None:
    vectors = normal(1500)
    chunks = (1, 77, 1500)
    assert len({built(catalog_of(vectors, chunk=c), tmp_path / str(c)).version for c in chunks}) == 1


@pytest.mark.parametrize("n", [300, 2000])
def test_the_order_of_the_items_does_not_change_the_version(
    catalog_of: CatalogOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    monkeypatch.setattr(calibration, "SMALLEST_BUDGET", 50)  # else so few items are not calibrated
    vectors, ids = normal(n), np.arange(n, dtype=np.int64) * 3 + 10
    # Of 2,000 items 1,280 are sampled.
    config = IndexConfig(clusters=20, max_scan_share=1.0, recall_depth=20)
    contents = []
    for seed in (0, 1):
        order = np.random.default_rng(seed).permutation(n)
        contents.append(built(catalog_of(vectors[order], ids[order]), tmp_path / str(seed), config).content)
    assert contents[0].scan_budget == contents[1].scan_budget < n
    assert contents[0].version == contents[1].version


def test_chunks_on_the_device_do_not_change_the_version(
    catalog_of: CatalogOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "SMALLEST_BUDGET", 50)
    catalog = catalog_of(normal(2000))
    whole = built(catalog, tmp_path / "whole")
    for module, name, size in (
        (build, "_ITEMS_AT_A_TIME", 300),
        (calibration, "_ITEMS_AT_A_TIME", 700),
        (filter_index, "_SIGNED_AT_A_TIME", 512),
    ):
        monkeypatch.setattr(module, name, size)
    assert built(catalog, tmp_path / "chunks").version == whole.version


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
def test_the_kernels_of_a_gpu_give_the_same_version(
    catalog_of: CatalogOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under Triton's interpreter they run on the CPU's tensors, in place of its own."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        catalog = catalog_of(normal(600))
        version = Snapshot.open(publish(catalog, Store(tmp_path / "gpu"), device="cuda")).version
        assert version == built(catalog, tmp_path / "cpu").version
        return
    monkeypatch.setattr(calibration, "SMALLEST_BUDGET", 50)
    config = IndexConfig(clusters=7, iterations=2, recall_depth=10)
    catalog = catalog_of(normal(150, 16))
    wanted = built(catalog, tmp_path / "cpu", config).version
    ran = set()

    def counted(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            ran.add(name)
            return kernel(*args)

        return run

    folders = {
        **dict.fromkeys(("quantize", "assign", "cluster_sums"), "vectors"),
        **dict.fromkeys(("exact_search", "rescore"), "search"),
    }
    for name, folder in folders.items():
        gpu = getattr(import_module(f"meshfold.kernels.gpu.{name}"), f"{name}_gpu")
        own = getattr(import_module(f"meshfold.kernels.{folder}.{name}"), f"_{name}")
        monkeypatch.setattr(own, "on_cpu", counted(name, gpu))
    sign_gpu = import_module("meshfold.kernels.gpu.sign").sign_gpu
    monkeypatch.setattr(filter_index, "sign_fields", counted("sign", sign_gpu))
    assert built(catalog, tmp_path / "gpu", config).version == wanted
    assert ran == {*folders, "sign"}


def test_the_version_is_the_content_alone(catalog_of: CatalogOf, tmp_path: Path) -> None:
    catalog = catalog_of(normal(200))
    one, other = (
        built(catalog, tmp_path / "a"),
        Snapshot.open(publish(catalog, Store(tmp_path / "b"), source="x")),
    )
    assert one.version == other.version
    assert other.built["source"] == "x"
    for name in TENSOR_FILES:
        first, second = ((s.folder / name).read_bytes() for s in (one, other))
        assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()
    changes: list[tuple[Catalog, IndexConfig]] = [
        (catalog, IndexConfig(candidates=4095)),
        (catalog, IndexConfig(seed=1)),
        (replace(catalog, popularity=catalog.popularity + np.float32(1)), IndexConfig()),
        (catalog_of(normal(200), exclude_history=False), IndexConfig()),
        (catalog_of(normal(200), tasks=("watch", "like")), IndexConfig()),
        (replace(catalog, texts={"title": ["x"] * 200}), IndexConfig()),
        (catalog_of(normal(200, seed=1)), IndexConfig()),
    ]
    versions = {built(c, tmp_path / str(i), config).version for i, (c, config) in enumerate(changes)}
    assert len(versions | {one.version}) == 1 + len(changes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 999, 1000, 1499])
def test_a_vector_that_is_not_finite_is_refused_with_its_item(
    catalog_of: CatalogOf, tmp_path: Path, value: float, place: int
) -> None:
    vectors = normal(1500)
    vectors[place, 3] = value
    with pytest.raises(InvalidData, match=rf"item {place * 3 + 10} holds NaN or infinity"):
        publish(catalog_of(vectors), Store(tmp_path))
    assert Store(tmp_path).published("shop") == []
    assert list((tmp_path / "shop").iterdir()) == []


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([], "200 items have 0 vectors"),
        ([normal(199)], "200 items have 199 vectors"),
        ([normal(201)], r"vectors must be \[200, 8\] float32 in all, got a chunk \(201, 8\) at 0"),
        ([normal(150), normal(51)], r"got a chunk \(51, 8\) at 150"),
        ([normal(200, 7)], r"got a chunk \(200, 7\)"),
        ([normal(200).astype(np.float64)], r"vectors must be \[200, 8\] float32"),
        ([normal(200).astype(">f4")], r"vectors must be \[200, 8\] float32"),
        ([normal(1600).reshape(200, 8, 8)], r"got a chunk \(200, 8, 8\)"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(
    catalog_of: CatalogOf, tmp_path: Path, chunks: list[Any], message: str
) -> None:
    catalog = replace(catalog_of(normal(200)), vectors=lambda: iter(chunks))
    with pytest.raises(InvalidData, match=message):
        publish(catalog, Store(tmp_path))


def test_chunks_of_any_memory_are_taken(catalog_of: CatalogOf, tmp_path: Path) -> None:
    vectors = normal(600)
    frozen = vectors.copy()
    frozen.flags.writeable = False
    wanted = built(catalog_of(vectors), tmp_path / "wanted").version
    for i, chunk in enumerate([frozen, np.asfortranarray(vectors), vectors[::-1].copy()[::-1]]):
        assert built(catalog_of(chunk), tmp_path / str(i)).version == wanted


@pytest.mark.parametrize("n", [1, 2, 23, 24, 48, 512, 513])
@pytest.mark.parametrize("fill", ["zeros", "equal", "random"])
def test_catalogs_of_any_size_and_dullness_are_built(
    catalog_of: CatalogOf, tmp_path: Path, n: int, fill: str
) -> None:
    vectors = {
        "zeros": np.zeros((n, 8), np.float32),
        "equal": np.ones((n, 8), np.float32),
        "random": normal(n),
    }
    snapshot = built(catalog_of(vectors[fill]), tmp_path)
    assert snapshot.content.items == n
    assert snapshot.built["recall"]["user_like_recall"] == 1.0


def test_a_bundle_of_its_own_after_many_is_signed(catalog_of: CatalogOf, tmp_path: Path) -> None:
    n = 64 * 512 + 3
    columns = {"year": Column.of_integers(FieldKind.INTEGER, [[i % 3] for i in range(n)])}
    catalog = catalog_of(normal(n, 4), plain=True)
    schema = replace(catalog.schema, fields=(Field("year", FieldKind.INTEGER),))
    snapshot = built(replace(catalog, schema=schema, columns=columns), tmp_path, IndexConfig(clusters=4))
    assert snapshot.filter["signature"].shape == (65, 4, 8)
    assert snapshot.filter["signature"][64, 0].tolist() == [0b111] + [0] * 7


@pytest.mark.parametrize("kind", [k for k in FieldKind if k is not FieldKind.TEXT])
def test_a_field_that_no_item_has_is_built(catalog_of: CatalogOf, tmp_path: Path, kind: FieldKind) -> None:
    if kind is FieldKind.NUMBER:
        column = Column.of_numbers(np.full(100, np.nan))
    elif kind.holds_strings:
        column = Column.of_strings(kind, [[]] * 100)
    else:
        column = Column.of_integers(kind, [[]] * 100)
    catalog = catalog_of(normal(100), plain=True)
    schema = replace(catalog.schema, fields=(Field("empty", kind),))
    snapshot = built(replace(catalog, schema=schema, columns={"empty": column}), tmp_path)
    assert not snapshot.filter["signature"].any()


@pytest.mark.parametrize("exponent", [-80, 80, 110])
def test_vectors_of_any_size_are_refused_or_clustered_alike(
    catalog_of: CatalogOf, tmp_path: Path, exponent: int
) -> None:
    vectors = normal(2000)
    wanted = built(catalog_of(vectors), tmp_path / "wanted")
    try:
        found = built(catalog_of(vectors * np.float32(2.0**exponent)), tmp_path / "found")
    except InvalidData:
        return
    assert torch.isfinite(found.index["centroid_spreads"]).all()
    assert torch.equal(found.index["centroids"], wanted.index["centroids"])
    assert torch.equal(found.index["rows"], wanted.index["rows"])


def test_progress_counts_up_in_every_stage(catalog_of: CatalogOf, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    publish(
        catalog_of(normal(17_000, 4), plain=True), Store(tmp_path), progress=lambda *call: calls.append(call)
    )
    stages = list(dict.fromkeys(stage for stage, _, _ in calls))
    assert stages == ["quantising", "clustering", "assigning", "calibrating", "writing", "measuring recall"]
    for stage in stages:
        done = [(d, total) for s, d, total in calls if s == stage]
        assert done == sorted(done)
        assert done[-1][0] == done[-1][1]


BUILD_WITHOUT = """
import sys

for name in ("pyarrow", "scipy", "celpy", "lark", "rich", "grpc_health", "grpc_reflection", "matplotlib"):
    sys.modules[name] = None

from pathlib import Path

import numpy as np

from meshfold.model.build import publish
from meshfold.model.data.catalog import Catalog
from meshfold.model.schema import Schema
from meshfold.model.store import Store
from meshfold.model.types import Query
from meshfold.service.runner import Runner

vectors = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
catalog = Catalog(Schema("clips", (), ("watch",)), np.arange(100), {}, lambda: iter([vectors]), 8)
runner = Runner.open(publish(catalog, Store(Path(sys.argv[1]))), "clips")
print(len(runner.run([runner.prepare(Query("clips", 5, history=np.array([3])))])[0].item_ids))
"""


def test_building_from_arrays_needs_no_optional_package(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", BUILD_WITHOUT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert told.stdout == "5\n", told.stderr
