"""`make load`, less its Makefile: requests from data, sent by locust to a server and to an address without one."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.proto import parse_length_prefixed

from meshfold.commands.__main__ import main
from meshfold.compat import mesh_v1, meshfold_v1
from meshfold.protos.mesh.v1.orchestrator_pb2 import RetrieveRequest
from meshfold.service.config import ServerConfig
from meshfold.service.server import Server

ROOT = Path(__file__).parents[2]
TRAFFIC = [sys.executable, "-m", "benchmarks.mesh.traffic"]
LOCUST = Path(sys.executable).parent / "locust"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "generated"
    flags = ["--items", "500", "--dimension", "8", "--users", "60"]
    assert main(["data", "generated", *flags, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def address(data: Path) -> Iterator[str]:
    store = data.parent / "store"
    assert main(["build", str(data), "--store", str(store)]) == 0
    server = Server(ServerConfig(address="127.0.0.1:0", store=store), [meshfold_v1, *mesh_v1.ADAPTERS])
    server.start()
    yield server.address
    server.stop()


@pytest.fixture(scope="module")
def requests(data: Path) -> Path:
    out = data.parent / "requests.bin"
    subprocess.run([*TRAFFIC, "--data", data, "--requests", "50", "--out", out], cwd=ROOT, check=True)
    return out


def load(folder: Path, requests: Path, targets: str) -> tuple[int, dict[str, dict[str, str]]]:
    """locust's exit status, and the rows of its CSV by target."""
    flags = ["--headless", "--run-time", "3s", "--csv", f"{folder}/report", "--html", f"{folder}/report.html"]
    own = ["--targets", targets, "--requests", str(requests), "--rate", "20", "--timeout", "10"]
    run = subprocess.run(
        [str(LOCUST), "-f", str(ROOT / "tests" / "load" / "locustfile.py"), *flags, *own],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (folder / "report.html").exists(), run.stderr
    with (folder / "report_stats.csv").open() as file:
        return run.returncode, {row["Name"]: row for row in csv.DictReader(file)}


def test_two_targets_stand_side_by_side_without_a_failure(
    tmp_path: Path, address: str, requests: Path
) -> None:
    status, rows = load(tmp_path, requests, f"model={address} {address}")
    assert status == 0
    for label in ("model", address):
        assert int(rows[label]["Request Count"]) > 10
        assert int(rows[label]["Failure Count"]) == 0
        # Answers with candidates in them, not empty ones.
        assert float(rows[label]["Average Content Size"]) > 1000


def test_a_target_that_does_not_answer_fails_the_run(tmp_path: Path, address: str, requests: Path) -> None:
    status, rows = load(tmp_path, requests, f"model={address} nobody=127.0.0.1:9")
    assert status == 1
    assert int(rows["nobody"]["Failure Count"]) >= 1
    assert int(rows["model"]["Failure Count"]) == 0


def test_requests_of_a_catalog_of_strings_have_strings(tmp_path: Path) -> None:
    lines = [f"vid_{i},{1980 + i}" for i in range(40)]
    (tmp_path / "items.csv").write_text("\n".join(["id,year", *lines]))
    events = [f"AE{u},vid_{(u * 7 + i) % 40},{i}" for u in range(5) for i in range(12)]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,time", *events]))
    (tmp_path / "schema.toml").write_text(
        'surface = "shop"\n[items]\nsource = "items.csv"\nid = "id"\n[fields.year]\nkind = "integer"\n'
        '[interactions]\nsource = "events.csv"\nuser = "user"\nitem = "item"\ntime = "time"\n[tasks.watch]\n'
    )
    out = tmp_path / "requests.bin"
    subprocess.run([*TRAFFIC, "--data", tmp_path, "--requests", "20", "--out", out], cwd=ROOT, check=True)
    with out.open("rb") as file:
        found = list(iter(lambda: parse_length_prefixed(RetrieveRequest, file), None))
    assert len(found) == 20
    for request in found:
        query = mesh_v1.retrieve.decode(request.SerializeToString())
        assert isinstance(query.history, tuple)
        assert len(query.history) == 12
        assert {*query.history} <= {f"vid_{i}" for i in range(40)}
    assert sum(len(request.excluded_item_keys) for request in found) == 5 * 20
