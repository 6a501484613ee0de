from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KERNELS = '''
import triton
import triton.language as tl
from meshfold.kernels.gpu.launch import Launch


@triton.jit
def plain(x, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(x + at, tl.load(x + at) + 1)


@triton.jit
def held(x, BLOCK: tl.constexpr):
    """More values at a time than a thread has registers."""
    at = tl.arange(0, BLOCK)
    one, two = tl.load(x + at), tl.load(x + BLOCK + at)
    tl.debug_barrier()
    tl.store(x + at, two)
    tl.store(x + BLOCK + at, one)


@triton.jit
def broken(x, BLOCK: tl.constexpr):
    tl.store(x + tl.arange(0, BLOCK), nowhere)


def compilations():
    return [
        Launch({"BLOCK": 128}, 4).compilation("plain", plain, {"*i64": "x"}),
        Launch({"BLOCK": 4096}, 1).compilation("held", held, {"*i64": "x"}),
        Launch({"BLOCK": 128}, 4).compilation("broken", broken, {"*i64": "x"}),
    ]
'''

pytest.importorskip("triton", reason="triton is not installed: pip install 'meshfold[gpu]'")


def run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    # Under the interpreter the tests run; what they start has to compile all the same.
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    if path:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.aot", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.long
def test_every_kernel_compiles_for_both_targets_and_none_spills(tmp_path: Path) -> None:
    done = run("--json", str(tmp_path / "rows.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    word, _, told = done.stdout.splitlines()[-1].partition(" ")
    assert word == "BENCH"
    assert json.loads(told) == {"name": "aot", "kernels": len(rows) // 2, "targets": 2, "spills": 0}
    assert [row["target"] for row in rows] == ["sm_80", "sm_90"] * (len(rows) // 2)
    assert {row["kernel"].partition(",")[0] for row in rows} >= {
        "assign",
        "cluster_sums",
        "count of eligible items",
        "exact_search",
        "filter program",
        "first_members",
        "item_vectors",
        "probe",
        "quantize",
        "rescore",
        "scan",
        "sign",
        "survivors of clusters",
        "value_program",
    }
    assert all(row["registers"] > 8 and not row["error"] for row in rows)
    # What a block of each target may have.
    assert all(row["shared_bytes"] <= {"sm_80": 163, "sm_90": 227}[row["target"]] * 1024 for row in rows)


@pytest.mark.long
def test_spills_and_errors_are_reported_and_end_with_1(tmp_path: Path) -> None:
    package = tmp_path / "kernels_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "three.py").write_text(KERNELS)
    done = run("--package", package.name, "--json", str(tmp_path / "rows.json"), path=tmp_path)
    assert done.returncode == 1
    rows = {(row["kernel"], row["target"]): row for row in json.loads((tmp_path / "rows.json").read_text())}
    for target in ("sm_80", "sm_90"):
        assert rows["plain", target]["spill_bytes"] == 0
        assert rows["held", target]["spill_bytes"] > 0
        assert "nowhere" in rows["broken", target]["error"]
        assert f"broken does not compile for {target}" in done.stderr
        assert f"held spills {rows['held', target]['spill_bytes']} bytes on {target}" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1].removeprefix("BENCH "))["spills"] == 2
    clean = run("--package", package.name, "--only", "plain", path=tmp_path)
    assert clean.returncode == 0, clean.stderr


def test_no_kernel_is_no_success() -> None:
    done = run("--only", "no such kernel")
    assert done.returncode == 1
    assert "no kernel of meshfold.kernels.gpu has 'no such kernel' in its name" in done.stderr
