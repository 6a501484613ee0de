import json
import subprocess
import sys
from pathlib import Path

from meshfold.commands.__main__ import main

ROOT = Path(__file__).parents[2]


def test_the_traffic_moves_from_mesh_to_model_and_every_answer_stays(tmp_path: Path) -> None:
    data = tmp_path / "generated"
    flags = ["--items", "400", "--dimension", "8", "--users", "60"]
    assert main(["data", "generated", *flags, "--out", str(data)]) == 0
    arguments = ["--data", f"{data}", "--work", f"{tmp_path}/work", "--requests", "24", "--results", "50"]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.mesh.demo", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    *lines, last = run.stdout.splitlines()
    word, _, told = last.partition(" ")
    assert word == "BENCH"
    assert json.loads(told) == {"name": "demo_mesh", "requests": 120, "failed": 0, "same_ids": 1.0}
    by_mode = {line.split()[0]: line for line in lines}
    assert "mesh 24" in by_mode["mesh"]
    assert "mesh 24" in by_mode["mirror"]
    # Which users a canary takes is fixed by their ids.
    assert "mesh" in by_mode["canary"]
    assert "model" in by_mode["canary"]
    assert "model 24" in by_mode["serve"]
    assert "model 24" in by_mode["only"]
