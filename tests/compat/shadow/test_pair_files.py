from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.compat.shadow.pair_files import PAIRS, read_pairs
from meshfold.compat.shadow.pair_rows import NAN_SCORES
from meshfold.compat.shadow.pair_writer import PairLimits, PairWriter
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData

PAIR = Pair(
    "r1",
    "shop",
    "u1",
    1_800_000_000_000,
    mesh=SideAnswer((3, 1, 2), (0.5, 0.25, -1.0), latency_ms=12.5, version="v1"),
    model=SideAnswer((1, 3)),
    served_by="mesh",
    max_results=3,
    filter="year > 1990",
    slices={"mode": "mirror"},
)
ROW: dict[str, Any] = {"request_id": "r", "mesh_item_ids": [1, 2], "model_item_ids": [2, 1]}


def write_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def write_table(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def read(*places: Path) -> tuple[list[Pair], Skipped]:
    skipped = Skipped()
    return list(read_pairs(*places, skipped=skipped)), skipped


def same(one: Pair, other: Pair) -> bool:
    """NaN equals NaN in a repr."""
    return repr(one) == repr(other) and one.request == other.request


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
LATENCY = st.floats(0, 1e9) | st.just(math.nan)


def sides(ids: st.SearchStrategy[Any]) -> st.SearchStrategy[SideAnswer | None]:
    def answers(some: list[Any]) -> st.SearchStrategy[SideAnswer]:
        scores = st.lists(st.floats(allow_nan=False), min_size=len(some), max_size=len(some))
        return st.builds(
            SideAnswer,
            st.just(tuple(some)),
            (st.just([]) | scores).map(tuple),
            latency_ms=LATENCY,
            version=TEXT,
        )

    failed = st.builds(SideAnswer, st.just(()), status=st.just("UNAVAILABLE"), latency_ms=LATENCY)
    return st.none() | failed | st.lists(ids, max_size=5).flatmap(answers)


def pairs(ids: st.SearchStrategy[Any]) -> st.SearchStrategy[Pair]:
    whole = st.integers(0, (1 << 53) - 1)
    return st.builds(
        Pair,
        TEXT.filter(bool),
        TEXT,
        TEXT,
        whole,
        sides(ids),
        sides(ids),
        sides(ids),
        st.sampled_from(["", "mesh", "model"]),
        whole,
        st.none() | TEXT,
        st.just(b""),
        st.booleans(),
        st.dictionaries(TEXT, TEXT, max_size=3),
    ).filter(lambda pair: bool(pair.mesh or pair.model or pair.again))


@settings(max_examples=40, deadline=None)
@given(given_=st.lists(pairs(st.integers(-(1 << 63), (1 << 63) - 1)) | pairs(TEXT), max_size=5))
def test_pairs_are_read_as_they_were_written(
    given_: list[Pair], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    writer = PairWriter(folder)
    for pair in given_:
        writer.append(pair)
    writer.close()
    assert (writer.written, writer.dropped) == (len(given_), 0)
    if given_:
        found, skipped = read(folder)
        assert sorted(map(repr, found)) == sorted(map(repr, given_))
        assert not skipped


def test_a_folder_of_a_comparison_and_one_of_pairs_are_read_alike(tmp_path: Path) -> None:
    writer = PairWriter(tmp_path / PAIRS)
    writer.append(PAIR)
    writer.close()
    write_table(tmp_path / "differences.parquet", {"request_id": ["r1"]})
    for place in (tmp_path, tmp_path / PAIRS, *(tmp_path / PAIRS).iterdir()):
        (pair,) = read(place)[0]
        assert same(pair, PAIR)


def test_others_write_the_columns_that_they_have(tmp_path: Path) -> None:
    (pair,) = read(write_lines(tmp_path / "a.jsonl", ROW))[0]
    assert same(pair, Pair("r", mesh=SideAnswer((1, 2)), model=SideAnswer((2, 1))))
    (other,) = read(write_table(tmp_path / "a.parquet", {name: [value] for name, value in ROW.items()}))[0]
    assert same(other, pair)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"request_id": pa.array([7], pa.uint32())}, {"request_id": "7"}),
        ({"user_key": [12]}, {"user_key": "12"}),
        (
            {"unix_ms": pa.array([1_700_000_000_123_456], pa.timestamp("us", "UTC"))},
            {"unix_ms": 1_700_000_000_123},
        ),
        ({"unix_ms": [1.7e12]}, {"unix_ms": 1_700_000_000_000}),
        ({"unix_ms": pa.nulls(1)}, {"unix_ms": 0}),
        ({"surface": pa.array(["a"]).dictionary_encode()}, {"surface": "a"}),
        ({"surface": pa.array(["a"], pa.large_string())}, {"surface": "a"}),
        ({"slices": [{"age": 7, "new": True, "no": None}]}, {"slices": {"age": "7", "new": "true"}}),
        ({"slices": pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string()))}, {"slices": {"a": "b"}}),
        ({"request": [b"\x08\x01"]}, {"request": b"\x08\x01"}),
        ({"filter": ["true"], "is_redacted": [True]}, {"filter": "true", "is_redacted": True}),
    ],
)
def test_types_that_others_write(tmp_path: Path, columns: dict[str, Any], expected: dict[str, Any]) -> None:
    path = write_table(tmp_path / "a.parquet", {name: [value] for name, value in ROW.items()} | columns)
    (pair,) = read(path)[0]
    assert {name: getattr(pair, name) for name in expected} == expected


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int32()),
        pa.list_(pa.uint64()),
        pa.large_list(pa.int64()),
        pa.list_(pa.int16(), 2),
        pa.list_(pa.float64()),
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.string_view()),
    ],
    ids=str,
)
def test_lists_that_others_write(tmp_path: Path, kind: pa.DataType) -> None:
    of_text = "string" in str(kind)
    ids: list[Any] = ["a", "b"] if of_text else [1, 2]
    lists = pa.array([ids, None, ids[::-1]], kind)
    others = pa.array([ids[::-1], ids[::-1], ids], kind)
    columns = {"request_id": ["1", "2", "3"], "mesh_item_ids": lists, "model_item_ids": others}
    first, second, third = read(write_table(tmp_path / "a.parquet", columns))[0]
    assert first.mesh == third.model
    assert first.mesh is not None
    assert first.mesh.item_ids == tuple(ids)
    assert second.mesh is None
    assert third.mesh is not None
    assert third.mesh.item_ids == tuple(ids[::-1])


def test_json_holds_requests_as_base64(tmp_path: Path) -> None:
    row = {**ROW, "request": base64.b64encode(b"\x08\x01").decode()}
    ((pair,), skipped) = read(write_lines(tmp_path / "a.json", row))
    assert (pair.request, bool(skipped)) == (b"\x08\x01", False)


BAD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"mesh_item_ids": [math.nan]}, "item ids that are NaN or no whole numbers"),
    ({"mesh_item_ids": [1.5]}, "item ids that are NaN or no whole numbers"),
    ({"mesh_item_ids": [1, None]}, "item ids that are null"),
    ({"mesh_item_ids": [1, "a"]}, "item ids that are not all integers or all strings"),
    ({"mesh_item_ids": [True]}, "item ids that are not all integers or all strings"),
    ({"mesh_item_ids": [1 << 63]}, "item ids that no signed 64 bits hold; write such ids as strings"),
    ({"mesh_item_ids": ["\ud800"]}, "half a surrogate pair"),
    ({"mesh_item_ids": 7}, "item_ids are no list"),
    ({"mesh_item_ids": ["a"]}, "integer ids on one side and strings on another"),
    ({"mesh_item_ids": [0] * 100_001}, "more than 100000 item_ids"),
    ({"mesh_item_ids": None, "model_item_ids": None}, "without an answer of any side"),
    ({"mesh_scores": [0.5]}, "more or fewer scores than items"),
    ({"mesh_scores": ["a", "b"]}, "scores that are no numbers"),
    ({"mesh_scores": [1, 10**400]}, "scores that are no numbers"),
    ({"mesh_status": "ok"}, "status is none of gRPC's"),
    ({"mesh_status": "UNAVAILABLE"}, "items of an answer whose status is not OK"),
    ({"mesh_latency_ms": -1}, "latency_ms is negative or infinite"),
    ({"mesh_latency_ms": 10**400}, "latency_ms is negative or infinite"),
    ({"mesh_latency_ms": "fast"}, "mesh_latency_ms is no number"),
    ({"served_by": "me"}, "served_by is neither mesh nor model"),
    ({"request_id": None}, "without a request_id"),
    ({"request_id": ""}, "without a request_id"),
    ({"request_id": 1.5}, "request_id is no text"),
    ({"surface": 7}, "surface is no text"),
    ({"max_results": -1}, "max_results is negative or no whole number"),
    ({"unix_ms": 0.5}, "unix_ms is negative or no whole number"),
    ({"is_redacted": 1}, "is_redacted is neither true nor false"),
    ({"request": "?"}, "request is no base64"),
    ({"request": 5}, "request holds no bytes"),
    ({"slices": 5}, "slices are no names with values"),
    ({"slices": {"a": []}}, "slices that are neither texts nor numbers"),
    ({"slices": {"a": "x" * 201}}, "slices of more than 200 characters"),
    ({"slices": {str(i): "" for i in range(65)}}, "more than 64 slices"),
]


@pytest.mark.parametrize(("bad", "expected"), BAD_ROWS, ids=[expected for _, expected in BAD_ROWS])
def test_a_bad_row_costs_itself_and_is_counted(tmp_path: Path, bad: dict[str, Any], expected: str) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROW, {**ROW, **bad}, ROW)
    found, skipped = read(path)
    assert len(found) == 2
    ((reason, count),) = skipped.counted.items()
    assert expected in reason
    assert count == 1
    assert skipped.first[reason] == f"{path}, row 2"
    assert skipped.notes() == (f"{reason}: 1, first at {path}, row 2.",)


def test_duplicates_are_kept_and_nan_scores_left_out(tmp_path: Path) -> None:
    row = {**ROW, "mesh_item_ids": [1, 1], "mesh_scores": [0.5, math.nan], "model_scores": [1, 2.5]}
    ((pair,), skipped) = read(write_lines(tmp_path / "a.jsonl", row))
    assert pair.mesh == SideAnswer((1, 1), latency_ms=pair.mesh.latency_ms if pair.mesh else 0)
    assert pair.model is not None
    assert pair.model.scores == (1.0, 2.5)
    assert skipped.counted == {NAN_SCORES: 1}
    infinite = {**ROW, "mesh_scores": [math.inf, -math.inf]}
    ((pair,), skipped) = read(write_lines(tmp_path / "b.jsonl", infinite))
    assert pair.mesh is not None
    assert (pair.mesh.scores, bool(skipped)) == ((math.inf, -math.inf), False)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {**ROW, "mesh_item_ids": 1.5},
            "column mesh_item_ids: expected a list of integers or strings, got double",
        ),
        ({**ROW, "mesh_item_ids": [[1]]}, "expected a list of integers or strings, got list<"),
        ({**ROW, "mesh_scores": ["a"]}, "column mesh_scores: expected a list of numbers, got list<"),
        ({**ROW, "again_status": 5}, "column again_status: expected a string, got int64"),
        ({**ROW, "unix_ms": "noon"}, "column unix_ms: expected an integer or a timestamp, got string"),
        ({**ROW, "slices": "a"}, "column slices: expected a map of strings or a struct, got string"),
        ({**ROW, "request": "a"}, "column request: expected binary, got string"),
        ({"request_id": "r", "item": 1}, "expected the columns mesh_item_ids and model_item_ids"),
        ({"requestid": "r", "item_ids": [1]}, "column request_id is missing; did you mean 'requestid'?"),
    ],
)
def test_another_schema_is_told_with_file_and_column(
    tmp_path: Path, columns: dict[str, Any], expected: str
) -> None:
    path = write_table(tmp_path / "a.parquet", {name: [value] for name, value in columns.items()})
    with pytest.raises(InvalidData) as error:
        read(path)
    assert expected in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_is_cut_costs_itself(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        write_table(tmp_path / f"{name}.parquet", {name: [value] * 50 for name, value in ROW.items()})
    cut = tmp_path / "2.parquet"
    cut.write_bytes(cut.read_bytes()[:-20])
    found, skipped = read(tmp_path)
    assert len(found) == 100
    assert skipped.counted == {"files that cannot be read": 1}
    assert f"{cut} ends in the middle or is damaged" in skipped.notes()[0]
    with pytest.raises(InvalidData, match=r"2\.parquet ends in the middle or is damaged"):
        read(cut)


def test_a_damaged_page_costs_what_follows_it(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", {name: [value] * 5000 for name, value in ROW.items()})
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)
    write_lines(tmp_path / "b.jsonl", ROW)
    found, skipped = read(tmp_path)
    assert found
    assert skipped.counted == {"files that cannot be read": 1}
    assert "is damaged behind row 0" in skipped.notes()[0]


def test_lines_that_are_no_rows(tmp_path: Path) -> None:
    deep = "[" * 100_000
    path = write_lines(tmp_path / "a.jsonl", ROW, "{]\n", "7\n", "\n", deep + "\n", ROW, '{"request_id": "cu')
    found, skipped = read(path)
    assert len(found) == 2
    assert skipped.counted == {
        "lines that are no JSON": 2,
        "lines that are no JSON objects": 1,
        "files that end in the middle": 1,
    }
    assert skipped.first["files that end in the middle"] == f"{path}, line 7"


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshfold.compat.shadow.row_files._MOST_LINE_BYTES", 1000)
    path = write_lines(tmp_path / "a.jsonl", ROW, {**ROW, "filter": "x" * 5000}, ROW)
    found, skipped = read(path)
    assert (len(found), skipped.counted) == (2, {"lines of more than 1000 bytes": 1})


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: None, "is not there"),
        (lambda path: path.mkdir(), "holds no files of pairs"),
        (lambda path: path.write_bytes(b"\x89PNG"), "neither Parquet nor JSON lines"),
        (lambda path: path.write_bytes(b"PAR1"), "ends in the middle or is damaged"),
        (lambda path: path.write_text('{"a": 1}\n'), "expected the columns mesh_item_ids and model_item_ids"),
    ],
)
def test_places_that_are_not_ours(tmp_path: Path, make: Callable[[Path], Any], expected: str) -> None:
    path = tmp_path / "place"
    make(path)
    with pytest.raises(InvalidData, match=expected):
        read(path)


def test_no_rows_are_no_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    columns = {name: pa.array([], pa.array([value]).type) for name, value in ROW.items()}
    write_table(tmp_path / "b.parquet", columns)
    assert read(tmp_path)[0] == []


def test_pandas_and_others_read_a_folder_while_it_is_written(tmp_path: Path) -> None:
    writer = PairWriter(tmp_path, PairLimits(file_rows=10))
    for i in range(100):
        writer.append(Pair(f"r{i}", mesh=SideAnswer((i,))))
        if i >= 9:
            assert ds.dataset(tmp_path).to_table().num_rows == (i + 1) // 10 * 10
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


def test_unsigned_ids_are_read_and_those_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    ids = pa.list_(pa.uint64())
    columns = {
        "request_id": pa.array([(1 << 64) - 1, 2], pa.uint64()),
        "mesh_item_ids": pa.array([[1, 2], [1 << 63]], ids),
        "model_item_ids": pa.array([[(1 << 63) - 1], [1]], ids),
    }
    (pair,), skipped = read(write_table(tmp_path / "a.parquet", columns))
    assert pair.model is not None
    assert (pair.request_id, pair.model.item_ids) == (str((1 << 64) - 1), ((1 << 63) - 1,))
    assert [*skipped.counted.values()] == [1]
    assert "write such ids as strings" in next(iter(skipped.counted))


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    names = ["request_id", "mesh_item_ids", "mesh_item_ids"]
    table = pa.table([pa.array(["a"]), pa.array([[1]]), pa.array([[2]])], names)
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InvalidData, match="column mesh_item_ids is there twice"):
        read(tmp_path / "a.parquet")


def test_a_file_may_begin_with_a_failure(tmp_path: Path) -> None:
    rows = ({"request_id": "a", "mesh_status": "UNAVAILABLE", "model_status": "INTERNAL"}, ROW)
    failed, _ = read(write_lines(tmp_path / "a.jsonl", *rows))[0]
    assert failed.mesh is not None
    assert failed.mesh.status == "UNAVAILABLE"
