"""That the estimate counts what the formats hold."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def roofline(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.gpu.roofline")


def test_memory_is_what_a_catalog_of_these_fields_takes(roofline: ModuleType) -> None:
    world_of = importlib.import_module("benchmarks.gpu.world").World.make
    n, d = 40_000, 32
    world = world_of(n, d, torch.device("cpu"), lambda *_: None)
    held = world.filter.tensors()
    columns = sum(t.nbytes for t in (*held.columns, *held.offsets))
    assert columns / n == pytest.approx(roofline.COLUMN_BYTES, rel=0.01)
    assert held.signature.nbytes / n == pytest.approx(roofline.SIGNATURE_ROWS / 8, rel=0.02)
    assert world.index.codes.nbytes == world.index.residuals.nbytes == n * d


def test_a_device_takes_as_long_as_its_slower_side(roofline: ModuleType) -> None:
    device = roofline.Device("any", 100.0, {"int8": 10.0})
    assert device.seconds(roofline.Cost(200.0, 5.0)) == 2.0
    assert device.seconds(roofline.Cost(200.0, 50.0)) == 5.0


def test_bytes_grow_with_the_batch_and_by_filters_alone_where_they_should(roofline: ModuleType) -> None:
    small, large = (roofline.stages(b, with_filter=True, ranked=True) for b in (16, 64))
    # Rows and columns are read once a batch, keys of clusters by each query.
    assert large["filter"].bytes < 1.2 * small["filter"].bytes
    assert large["probe"].bytes > 3.5 * small["probe"].bytes
    # Of 2,048 survivors a query all are in its pool: code, residual, unit, position and similarity of each.
    assert small["compare pools"].bytes == 16 * 2048 * (2 * 128 + 4 + 8 + 4)
    assert "filter" not in roofline.stages(16, with_filter=False, ranked=False)
    memory = roofline.memory_bytes()
    assert memory["residuals"] == memory["codes"] == 80_000_000 * 128
