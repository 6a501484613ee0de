import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from meshfold.commands.__main__ import main
from meshfold.model.build import publish
from meshfold.model.config import IndexConfig
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.exports import export_over_arch, export_user_tower
from meshfold.model.schema import Field, FieldKind, Input, InputKind, Schema
from meshfold.model.snapshot import OVER_ARCH, USER_TOWER, Snapshot
from meshfold.model.store import Store

N = 3000


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fields of every kind of signature."""
    rng = np.random.default_rng(0)
    fields = (
        Field("title", FieldKind.TEXT),
        Field("language", FieldKind.CATEGORY),
        Field("tags", FieldKind.CATEGORIES),
        Field("author", FieldKind.INTEGER),
        Field("price", FieldKind.NUMBER),
    )
    columns = {
        "language": Column.of_strings(FieldKind.CATEGORY, [[f"l{i % 5}"] for i in range(N)]),
        "tags": Column.of_strings(
            FieldKind.CATEGORIES,
            [[f"t{v}" for v in rng.integers(0, 299, i % 6)] + ["hit"] * (i % 3 == 0) for i in range(N)],
        ),
        "author": Column.of_integers(FieldKind.INTEGER, [[i % 500] for i in range(N)]),
        "price": Column.of_numbers(np.arange(N) / 4),
    }
    vectors = rng.standard_normal((N, 8)).astype(np.float32)
    catalog = Catalog(
        Schema("shop", fields, ("buy",)),
        np.arange(N),
        columns,
        lambda: iter([vectors]),
        8,
        {"title": [f"title {i}" for i in range(N)]},
    )
    return publish(catalog, Store(tmp_path_factory.mktemp("store")), IndexConfig(iterations=1))


def summary(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["inspect", str(snapshot), "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_json_tells_how_often_the_rows_of_each_field_lie(
    snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = summary(snapshot, capsys)
    fields = told["fields"]
    assert {name: f.get("signature") for name, f in fields.items()} == {
        "title": None,
        "language": "exact planes",
        "tags": "Bloom",
        "author": "Bloom",
        "price": "presence only",
    }
    assert fields["language"]["distinct"] == 5
    assert fields["tags"]["distinct"] == 300
    blooms = [f["bloom"] for f in fields.values() if "bloom" in f]
    assert {name: f.get("planes") for name, f in fields.items()} == {
        "title": None,
        "language": 5,
        "tags": 1,
        "author": 0,
        "price": None,
    }
    assert told["signature_rows"] == 4 + 5 + 1 + sum(b["chosen"]["rows"] for b in blooms)
    for bloom in blooms:
        assert bloom["values"] == 256
        assert bloom["items"] == N
        assert 0 < bloom["measured"] < 0.01
        assert bloom["measured"] == pytest.approx(bloom["chosen"]["expected"], rel=0.5)
        assert len(bloom["others"]) == 4
        assert bloom["chosen"]["bytes"] == bloom["chosen"]["rows"] * 64 * -(-N // 512)
    held = Snapshot.open(snapshot).filter
    for name in ("tags", "author"):
        lists, planes = fields[name]["lists"], held[f"plane.{name}"]
        values = held[f"column.{name}"]
        values = values[~torch.isin(values, planes)]
        distinct, counts = torch.unique(values, return_counts=True)
        assert (lists["lists"], lists["longest"]) == (len(distinct), int(counts.max()))
        assert lists["bytes"] == 4 * len(values) + 16 * len(distinct)
        assert lists["bytes_per_item"] == pytest.approx(lists["bytes"] / N)
    assert "lists" not in fields["language"]
    assert summary(snapshot, capsys) == told


def test_what_a_gpu_would_hold_is_priced(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu = summary(snapshot, capsys)["gpu"]
    held = Snapshot.open(snapshot)
    assert gpu["parts"]["codes"] == gpu["parts"]["residuals"] == N * 8
    assert gpu["parts"]["signature"] == held.filter["signature"].numel() * 8
    fields = [t for name, t in held.filter.items() if name.startswith(("column.", "offsets."))]
    assert gpu["parts"]["columns"] == sum(t.numel() * t.element_size() for t in fields)
    assert gpu["with_residuals"] == sum(gpu["parts"].values())
    assert gpu["without_residuals"] == gpu["with_residuals"] - N * 8
    sizes = list(gpu["batches"].values())
    assert sizes == sorted(sizes)
    assert main(["inspect", str(snapshot)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [" ".join(line.split()) for line in lines[lines.index("On a GPU") :]]
    assert (
        f"all, --residuals host {gpu['without_residuals'] / N:,.2f} {gpu['without_residuals'] / 2**20:,.1f}"
        in rows
    )
    assert any(row.startswith("beside it, about, a batch of 32 ") for row in rows)


def test_the_table_tells_it_to_people(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = summary(snapshot, capsys)
    assert main(["inspect", str(snapshot)]) == 0
    shown = capsys.readouterr().out
    assert "1 exact plane, Bloom for the rest" in shown
    assert "exact planes\n" in shown
    lines = shown.splitlines()
    (start,) = (
        i for i, line in enumerate(lines) if line.startswith("Items that Bloom rows let through in vain")
    )
    head, body = lines[start + 1], lines[start + 2 : start + 12]
    assert head.split()[:3] == ["field", "rows", "hashes"]
    for name in ("tags", "author"):
        bloom = told["fields"][name]["bloom"]
        (own,) = (line.split() for line in body if line.startswith(name))
        assert own[1:3] == [str(bloom["chosen"]["rows"]), str(bloom["chosen"]["hashes"])]
        assert own[5:] == [
            f"{bloom['chosen']['expected']:.3%}",
            f"{bloom['measured']:.3%}",
            f"{bloom['typical_pass_rate']:.3%}",
        ]
        for other in bloom["others"]:
            assert any(line.split()[:2] == [str(other["rows"]), str(other["hashes"])] for line in body)
    assert max(map(len, [head, *body])) <= 100
    (start,) = (i for i, line in enumerate(lines) if line.startswith("Posting lists of values"))
    for name in ("tags", "author"):
        lists = told["fields"][name]["lists"]
        (own,) = (line.split() for line in lines[start + 2 : start + 4] if line.startswith(name))
        assert own[1:3] == [f"{lists['lists']:,}", f"{lists['longest']:,}"]


class User(nn.Module):
    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return inputs["history_vectors"].mean(1, keepdim=True) + inputs["hour"].unsqueeze(1)


class Rank(nn.Module):
    listwise = 64

    def forward(self, users: Tensor, items: Tensor, similarities: Tensor, present: Tensor) -> Tensor:
        return similarities - (similarities * present).sum(2, keepdim=True)


def test_programs_are_told_by_what_they_take_and_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = (Input("hour", InputKind.FLOATS, 1), Input("country", InputKind.STRINGS, 2))
    schema = Schema("bare", (Field("kind", FieldKind.INTEGER),), ("buy",), inputs=inputs)
    columns = {"kind": Column.of_integers(FieldKind.INTEGER, [[i % 2] for i in range(8)])}
    catalog = Catalog(schema, np.arange(8), columns, lambda: iter([np.eye(8, dtype=np.float32)]), 8)
    programs = {
        USER_TOWER: export_user_tower(User(), schema, 8),
        OVER_ARCH: export_over_arch(Rank(), schema, 8),
    }
    folder = publish(catalog, Store(tmp_path), programs=programs)
    told = summary(folder, capsys)
    assert told["inputs"] == [
        {"name": "hour", "kind": "floats", "length": 1},
        {"name": "country", "kind": "strings", "length": 2},
    ]
    assert told["signatures"] == {
        "user_tower": {
            "inputs": [
                {"name": "history", "shape": [1, 128], "dtype": "int64"},
                {"name": "history_vectors", "shape": [1, 128, 8], "dtype": "float32"},
                {"name": "in_history", "shape": [1, 128], "dtype": "bool"},
                {"name": "hour", "shape": [1, 1], "dtype": "float32"},
                {"name": "country", "shape": [1, 2], "dtype": "int64"},
            ],
            "outputs": [{"name": "", "shape": [1, 1, 8], "dtype": "float32"}],
        },
        "over_arch": {
            "inputs": [
                {"name": "users", "shape": [1, 1, 8], "dtype": "float32"},
                {"name": "items", "shape": [1, 64, 8], "dtype": "float32"},
                {"name": "similarities", "shape": [1, 1, 64], "dtype": "float32"},
                {"name": "present", "shape": [1, 64], "dtype": "bool"},
            ],
            "outputs": [{"name": "", "shape": [1, 1, 64], "dtype": "float32"}],
            "listwise": 64,
        },
    }
    assert main(["inspect", str(folder)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["country", "strings", "2"] in rows
    assert ["user_tower", "takes", "history", "[1,", "128]", "int64"] in rows
    assert ["takes", "country", "[1,", "2]", "int64"] in rows
    assert ["over_arch", "(listwise)", "takes", "users", "[1,", "1,", "8]", "float32"] in rows
    assert ["gives", "-", "[1,", "1,", "64]", "float32"] in rows


def test_a_snapshot_without_programs_has_no_signatures(
    snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = summary(snapshot, capsys)
    assert told["inputs"] == []
    assert told["signatures"] == {}
    assert main(["inspect", str(snapshot)]) == 0
    assert "Programs" not in capsys.readouterr().out


def test_a_snapshot_without_hashed_fields_has_no_such_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = np.eye(8, dtype=np.float32)
    schema = Schema("bare", (Field("kind", FieldKind.INTEGER),), ("buy",))
    columns = {"kind": Column.of_integers(FieldKind.INTEGER, [[i % 2] for i in range(8)])}
    folder = publish(Catalog(schema, np.arange(8), columns, lambda: iter([vectors]), 8), Store(tmp_path))
    assert main(["inspect", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "Bloom" not in shown
    assert "Posting" not in shown
