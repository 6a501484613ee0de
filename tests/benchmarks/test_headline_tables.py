"""The headline's tables from rows, the sweep's best, and stages that add up."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MESH = {
    **{"rate_hz": 10.0, "rate_low_hz": 9.0, "rate_high_hz": 11.0, "saturated_hz": 45.0, "cpu_ms": 45.0},
    **{"equal_p50_ms": 60.0, "equal_p99_ms": 99.0, "callers_1_p50_ms": 40.0, "memory_mb": 2400.0},
    **{"request_bytes": 150.0, "answer_bytes": 30_850.0, "between_bytes": 170_000.0, "recall": 0.97},
    **{"others_cores": 0.02, "generator_cpu_ms": 0.4},
}
MODEL = {**MESH, "rate_hz": 43.0, "saturated_hz": 104.0, "cpu_ms": 17.0, "between_bytes": 0.0, "recall": 0.98}
CONFIG = {
    **{"items": 1_000_000, "dimension": 128, "results": 1000, "p99_ms": 100.0, "over_arch_changes": 0.31},
}


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules by name, whose rows are those of a folder of the test."""
    monkeypatch.syspath_prepend(ROOT)
    rows = importlib.import_module("benchmarks.rows")
    monkeypatch.setattr(rows, "RESULTS", tmp_path)

    def module(name: str) -> Any:
        imported = importlib.import_module(f"benchmarks.headline.{name}")
        if hasattr(imported, "RESULTS"):
            monkeypatch.setattr(imported, "RESULTS", tmp_path)
        return imported

    module.rows = rows  # type: ignore[attr-defined]
    return module


def test_without_rows_pages_say_what_measures_them(measured: Any) -> None:
    tables = measured("tables")
    for table in (tables.headline, tables.variants, tables.steps, tables.stages, tables.mesh_settings):
        assert table().startswith("No rows yet: `make ")


def test_the_headline_has_ratios_and_the_machine(measured: Any) -> None:
    row = measured.rows.Row
    measured.rows.write_rows(
        [
            row("headline", "headline, mesh", CONFIG, MESH, device="two cores"),
            row("headline", "headline, model", CONFIG, MODEL, device="two cores"),
            row("headline", "100 results, mesh", CONFIG, MESH, device="two cores"),
            row("headline", "100 results, model", CONFIG, {**MODEL, "rate_hz": 50.0}, device="two cores"),
        ]
    )
    text = measured("tables").headline()
    assert "| **requests a second, 99 % within 100 ms** | **10.0** (9.0 to 11.0) | **43.0** " in text
    assert "| 4.3x |" in text
    assert "| processor time a request | 45.0 ms | 17.0 ms | 2.6x |" in text
    assert "| bytes between services, a request | 170 kB | none | |" in text
    assert "that changes 31% of the best results" in text
    assert "two cores" in text
    assert (
        "| 100 results | 10.0 | 50.0 | 5.0x | 2.3x | 2.6x | 0.9700, 0.9800 |" in measured("tables").variants()
    )


def test_steps_add_up(measured: Any) -> None:
    costs = {"the mesh": (45.0, 60.0), "scoring": (40.0, 50.5), "the model": (17.0, 20.0)}
    measured.rows.write_rows(
        [
            measured.rows.Row(
                "headline_steps",
                name,
                {"items": 1000},
                {"cpu_ms": cpu_ms, "one_p50_ms": p50_ms, "saturated_hz": 9.0},
                device="two cores",
            )
            for name, (cpu_ms, p50_ms) in costs.items()
        ]
    )
    lines = measured("tables").steps().splitlines()
    assert lines[3] == "| scoring | 40.0 ms | 5.0 ms | 50.5 ms | 9.5 ms | 9 a second |"
    assert lines[5] == "| in all | | 28.0 ms | | 40.0 ms | |"


def test_the_mesh_has_the_best_of_its_settings(measured: Any) -> None:
    settings = measured("mesh_settings")
    assert settings.best() == settings.MeshSettings()
    rates = {
        settings.MeshSettings(): 9.0,
        settings.MeshSettings(2, 2): 12.0,
        settings.MeshSettings(1, 4): 11.0,
    }
    measured.rows.write_rows(
        [
            measured.rows.Row("headline_mesh", str(of), vars(of), {"rate_hz": rate, "saturated_hz": 40.0})
            for of, rate in rates.items()
        ]
    )
    assert settings.best() == settings.MeshSettings(2, 2)


def test_a_stage_is_less_those_within_it(measured: Any) -> None:
    def spin(seconds: float) -> None:
        end_s = time.thread_time() + seconds
        while time.thread_time() < end_s:
            pass

    times = measured("stages").Times()

    def outer() -> None:
        times.note("inner", spin, 0.05)
        spin(0.01)
        times.note("inner", spin, 0.05)

    start_s = time.thread_time()
    times.note("outer", outer)
    whole_s = time.thread_time() - start_s
    assert times.taken["inner"] >= 0.1
    assert 0.01 <= times.taken["outer"] <= whole_s - times.taken["inner"] + 1e-3
    assert sum(times.taken.values()) == pytest.approx(whole_s, abs=1e-3)
