from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.model.data.source import open_source
from meshfold.model.errors import InvalidData

SCHEMA = """surface = "shop"
[items]
source = "items.csv"
id = "id"
[interactions]
source = "events.{suffix}"
user = "user"
item = "item"
time = "time"
[tasks.view]
"""
INPUTS = """[inputs.hour]
kind = "ints"
[inputs.price]
kind = "floats"
length = 2
[inputs.country]
kind = "strings"
[inputs.words]
kind = "text"
length = 4
[inputs.nowhere]
kind = "strings"
"""


def written(folder: Path, columns: dict[str, object], suffix: str = "parquet", inputs: str = INPUTS) -> Path:
    (folder / "items.csv").write_text("id\n1\n2\n3\n")
    table = pa.table({"user": [1, 1, 2], "item": [1, 2, 3], "time": [30, 20, 10], **columns})
    if suffix == "csv":
        lines = [table.column_names, *([str(v) for v in row.values()] for row in table.to_pylist())]
        text = "\n".join(",".join(line) for line in lines).replace("None", "")
        (folder / "events.csv").write_text(text + "\n")
    else:
        pq.write_table(table, folder / "events.parquet")
    (folder / "schema.toml").write_text(SCHEMA.format(suffix=suffix) + inputs)
    return folder


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_each_row_tells_what_its_request_brought(tmp_path: Path, suffix: str) -> None:
    columns = {
        "hour": [8, None, 23],
        "price": [1.5, 2.0, None],
        "country": ["de", "", "fr"] if suffix == "csv" else ["de", None, "fr"],
        "words": ["red shoes", "hat", None],
    }
    source = open_source(written(tmp_path, columns, suffix))
    features = source.features()
    assert features is not None
    assert features.missing == ("nowhere",)
    first = features.at(0)
    assert (first["hour"].tolist(), first["price"].tolist()) == ([8], [1.5])  # type: ignore[union-attr]
    assert (first["hour"].dtype, first["price"].dtype) == (np.int64, np.float32)  # type: ignore[union-attr]
    assert (first["country"], first["words"]) == (("de",), ("red shoes",))
    assert set(features.at(1)) == {"price", "words"}
    assert set(features.at(2)) == {"hour", "country"}
    interactions = source.interactions()
    assert interactions is not None
    # Held in the order of user and time, each knows its row.
    assert interactions.item_ids.tolist() == [2, 1, 3]
    assert interactions.rows.tolist() == [1, 0, 2]


def test_lists_bring_all_of_their_values(tmp_path: Path) -> None:
    columns = {
        "hour": [[8, 9], [], None],
        "country": [["de", "fr"], ["it"], []],
        "price": [[0.5], [1.0, 2.0], [3.0]],
    }
    features = open_source(written(tmp_path, columns)).features()
    assert features is not None
    assert features.at(0)["hour"].tolist() == [8, 9]  # type: ignore[union-attr]
    assert features.at(0)["country"] == ("de", "fr")
    assert set(features.at(1)) == {"country", "price"}
    assert set(features.missing) == {"words", "nowhere"}


def test_a_value_of_another_kind_is_named(tmp_path: Path) -> None:
    features = written(tmp_path, {"hour": ["8", "noon", "9"]}, "csv")
    with pytest.raises(InvalidData, match=r"column hour, row 2.*'noon'"):
        open_source(features).features()


def test_a_schema_without_inputs_has_none(tmp_path: Path) -> None:
    assert open_source(written(tmp_path, {}, inputs="")).features() is None
