"""`meshfold query` at a surface whose ids are strings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.commands.__main__ import main
from meshfold.service.server import Server

Ask = Callable[..., Any]
NAMES = ["vid_12", "vid_7", "007", "12", "7", "a,b", "é è", "550e8400-e29b-41d4-a716-446655440000"]
SCHEMA = """
surface = "clips"
[items]
source = "items.parquet"
id = "id"
vector = "vector"
[tasks.watch]
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of eight clips."""
    folder = tmp_path_factory.mktemp("clips")
    vectors = np.random.default_rng(0).standard_normal((len(NAMES), 4))
    pq.write_table(pa.table({"id": NAMES, "vector": vectors.tolist()}), folder / "items.parquet")
    (folder / "schema.toml").write_text(SCHEMA)
    assert main(["build", str(folder), "--store", str(folder / "store")]) == 0
    return folder / "store"


@pytest.fixture
def server(clips: Path, start: Callable[..., Server]) -> Server:
    return start(clips)


@pytest.fixture
def ask(server: Server, capsys: pytest.CaptureFixture[str]) -> Ask:
    def ask(*flags: str) -> Any:
        assert main(["query", "--address", server.address, "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


@pytest.mark.parametrize("protocol", ["meshfold.v1", "mesh.v1"])
@pytest.mark.parametrize(
    ("history", "met"),
    [
        ("vid_12,vid_7", {"vid_12", "vid_7"}),
        ("007", {"007"}),
        ('"12","7"', {"12", "7"}),
        ('"a,b",é è', {"a,b", "é è"}),
        ("12,vid_7", {"12", "vid_7"}),
        (NAMES[-1], {NAMES[-1]}),
    ],
)
def test_ids_are_strings(ask: Ask, protocol: str, history: str, met: set[str]) -> None:
    answer = ask("--history", history, "--protocol", protocol, "--user", "AE22")
    assert {item["item_id"] for item in answer["items"]} == set(NAMES) - met
    assert answer["notes"] == {}
    left = ask("--history", "vid_12", "--exclude", history, "--protocol", protocol)
    assert {item["item_id"] for item in left["items"]} == set(NAMES) - met - {"vid_12"}


def test_a_table_shows_strings(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "--address", server.address, "--history", "vid_12"]) == 0
    assert "550e8400-e29b-41d4-a716-446655440000" in capsys.readouterr().out


def test_items_that_the_catalog_lacks_are_named(ask: Ask) -> None:
    answer = ask("--history", "vid_12,vid_99,nobody")
    assert answer["notes"] == {"history": "2 of 3 items are not in the catalog: vid_99, nobody"}


@pytest.mark.parametrize("flag", ["--history", "--exclude"])
def test_integers_are_told_how_to_be_strings(
    server: Server, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert main(["query", "--address", server.address, flag, "12,7"]) == 1
    told = capsys.readouterr().err
    assert "the item ids of this surface are strings; in double quotes they are strings" in told
    assert told.count("\n") == 1


def test_two_kinds_of_ids_are_refused(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "--address", server.address, "--history", "vid_12", "--exclude", "12"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("meshfold: excluded_ids")
    assert told.count("\n") == 1
