from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.model.data import vector_file
from meshfold.model.data.catalog import Catalog, no_vectors
from meshfold.model.data.table_files import TableFiles
from meshfold.model.data.vector_file import read_vectors, vector_dimension, with_vectors, write_vectors
from meshfold.model.errors import InvalidData
from meshfold.model.schema import Schema

IDS = np.array([4, 2, 9, 7, 1])
VECTORS = np.arange(1, 16, dtype=np.float32).reshape(5, 3)


def _catalog(ids: np.ndarray = IDS) -> Catalog:
    return Catalog(Schema("shop", (), ("view",)), ids, {}, no_vectors, 0)


def _write(path: Path, rows: list[object], kind: pa.DataType, ids: np.ndarray = IDS) -> TableFiles:
    pq.write_table(pa.table({"item_id": ids[: len(rows)], "vector": pa.array(rows, kind)}), path)
    return TableFiles.open(path)


@pytest.mark.parametrize("held", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize(
    "lists", [pa.list_, pa.large_list, partial(pa.list_, list_size=3), pa.list_view, pa.large_list_view]
)
def test_every_shape_of_list_is_read(
    tmp_path: Path, held: pa.DataType, lists: Callable[[pa.DataType], pa.DataType]
) -> None:
    files = _write(tmp_path / "v.parquet", [pa.array(row, held) for row in VECTORS.tolist()], lists(held))
    assert vector_dimension(files, "vector") == 3
    np.testing.assert_array_equal(np.concatenate(list(read_vectors(files, "vector", IDS, 3))), VECTORS)


def test_each_file_may_have_its_own_type(tmp_path: Path) -> None:
    kinds = [
        pa.list_(pa.float64()),
        pa.list_(pa.float32(), 3),
        pa.large_list(pa.float16()),
        pa.list_view(pa.float32()),
        pa.large_list_view(pa.float64()),
    ]
    for place, (row, kind) in enumerate(zip(VECTORS.tolist(), kinds, strict=True)):
        held = pa.array([np.array(row, kind.value_type.to_pandas_dtype())], kind)
        pq.write_table(pa.table({"vector": held}), tmp_path / f"{place}.parquet")
    tensor = pa.fixed_shape_tensor(pa.float32(), [3])
    stored = pa.array([[16, 17, 18]], pa.list_(pa.float32(), 3))
    pq.write_table(
        pa.table({"vector": pa.ExtensionArray.from_storage(tensor, stored)}), tmp_path / "5.parquet"
    )
    files = TableFiles.open(tmp_path)
    assert vector_dimension(files, "vector") == 3
    read = np.concatenate(list(read_vectors(files, "vector", np.arange(6), 3)))
    np.testing.assert_array_equal(read, np.arange(1, 19).reshape(6, 3))


@pytest.mark.parametrize(
    "empty", [pa.null(), pa.string(), pa.list_(pa.null()), pa.float64(), pa.list_(pa.float32(), 7)]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_files_without_rows_have_no_dimension(tmp_path: Path, empty: pa.DataType, place: int) -> None:
    parts = [pa.array(VECTORS[:2].tolist()), pa.array(VECTORS[2:].tolist())]
    parts.insert(place, pa.array([], empty))
    for number, part in enumerate(parts):
        pq.write_table(
            pa.table({"vector": part, "vector.norm": [0.0] * len(part)}), tmp_path / f"{number}.parquet"
        )
    files = TableFiles.open(tmp_path)
    assert vector_dimension(files, "vector") == 3
    np.testing.assert_array_equal(np.concatenate(list(read_vectors(files, "vector", IDS, 3))), VECTORS)


def test_a_bad_file_among_many_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"vector": [[1.0, 2.0]]}), tmp_path / "a.parquet")
    for other, message in (
        (pa.array([None], pa.list_(pa.float32())), r"b\.parquet: item 2 has no vector"),
        (pa.nulls(1), r"b\.parquet: item 2 has no vector"),
        (pa.array([[None, None]], pa.list_(pa.null())), r"b\.parquet: the vector of item 2 holds NaN"),
        (pa.array(["[1, 2]"]), r"b\.parquet: column vector must hold lists of floats in Parquet, got string"),
        (pa.array([[1, 2]]), r"b\.parquet: column vector must hold lists of floats in Parquet, got list<"),
        (pa.array([[1.0]], pa.list_view(pa.float16())), r"b\.parquet: the vector of item 2 has 1 numbers"),
    ):
        pq.write_table(pa.table({"vector": other}), tmp_path / "b.parquet")
        files = TableFiles.open(tmp_path)
        with pytest.raises(InvalidData, match=message):
            list(read_vectors(files, "vector", IDS, vector_dimension(files, "vector")))


FIXED = pa.list_(pa.float32(), 2)
LIST = pa.list_(pa.float64())


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([[1.0, 2.0], None], LIST, "item 2 has no vector"),
        ([[1.0, 2.0], None], FIXED, "item 2 has no vector"),
        ([None, [1.0, 2.0]], LIST, "the first vector of column vector has 0 numbers"),
        ([[], [1.0]], LIST, "the first vector of column vector has 0 numbers"),
        ([[1.0, 2.0], [3.0]], LIST, "the vector of item 2 has 1 numbers, that of the first has 2"),
        ([[1.0], [2.0], [3.0, 4.0, 5.0], []], LIST, "the vector of item 9 has 3 numbers"),
        ([[1.0, 2.0], [3.0, float("nan")]], LIST, "the vector of item 2 holds NaN"),
        ([[1.0, 2.0], [3.0, None]], LIST, "the vector of item 2 holds NaN"),
        ([[1.0, float("-inf")]], FIXED, "the vector of item 4 holds NaN"),
        ([[1.0], [1e39]], LIST, "item 2 holds NaN or a number beyond float32"),
        ([[1, 2]], pa.list_(pa.int64()), "must hold lists of floats in Parquet, got list"),
        ([1.0], pa.float64(), "must hold lists of floats in Parquet, got double"),
        ([[1.0] * 4097], LIST, "has 4097 numbers; vectors have 1 to 4096"),
    ],
)
def test_a_vector_that_is_none_is_refused(
    tmp_path: Path, rows: list[object], kind: pa.DataType, message: str
) -> None:
    files = _write(tmp_path / "v.parquet", rows, kind)
    with pytest.raises(InvalidData, match=message):
        list(read_vectors(files, "vector", IDS, vector_dimension(files, "vector")))


def test_files_of_another_dimension_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a.parquet", [[1.0, 2.0]], FIXED)
    _write(tmp_path / "b.parquet", [[1.0, 2.0, 3.0]], pa.list_(pa.float32(), 3))
    with pytest.raises(InvalidData, match=r"b\.parquet: the vectors have 3 numbers, expected 2"):
        list(read_vectors(TableFiles.open(tmp_path), "vector", IDS, 2))


def test_vectors_written_are_vectors_joined(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    write_vectors(path, IDS, [VECTORS[:2], VECTORS[2:]], 3)
    catalog = with_vectors(_catalog(), path)
    assert (catalog.dimension, catalog.items_without_vector) == (3, 0)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(catalog.vectors())), VECTORS)


@pytest.mark.parametrize("chunk", [1, 2, 65_536])
@pytest.mark.parametrize("rows", [[1, 3], [0, 4], [2], [3, 1], [4, 3, 2, 1, 0]])
def test_a_join_puts_zeros_where_a_vector_is_missing(
    tmp_path: Path, rows: list[int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_file, "VECTORS_PER_CHUNK", chunk)
    path = tmp_path / "v.parquet"
    write_vectors(path, IDS[rows], [VECTORS[rows]], 3)
    catalog = with_vectors(_catalog(), path)
    expected = np.zeros_like(VECTORS)
    expected[rows] = VECTORS[rows]
    np.testing.assert_array_equal(np.concatenate(list(catalog.vectors())), expected)
    assert catalog.items_without_vector == 5 - len(rows)


@pytest.mark.parametrize(
    ("ids", "message"),
    [([4, 2, 4, 7, 1], "row 3: row 1 has the id 4, too"), ([4, 2, 5, 7, 6], "item 5 is not in the catalog")],
)
def test_ids_that_do_not_fit_the_catalog_are_refused(tmp_path: Path, ids: list[int], message: str) -> None:
    write_vectors(tmp_path / "v.parquet", np.array(ids), [VECTORS], 3)
    with pytest.raises(InvalidData, match=message):
        with_vectors(_catalog(), tmp_path / "v.parquet")


def test_a_file_without_vectors_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": IDS, "vectors": IDS}), tmp_path / "v.parquet")
    with pytest.raises(InvalidData, match="no column 'vector'; did you mean 'vectors'"):
        with_vectors(_catalog(), tmp_path / "v.parquet")


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path) -> None:
    def chunks() -> object:
        yield VECTORS[:2]
        raise InvalidData("the source broke off")

    with pytest.raises(InvalidData, match="broke off"):
        write_vectors(tmp_path / "v.parquet", IDS, chunks(), 3)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidData, match="cannot be written"):
        write_vectors(tmp_path / "missing" / "v.parquet", IDS, [VECTORS], 3)


def test_a_stream_holds_a_part_of_a_row_group_at_a_time(tmp_path: Path) -> None:
    n, dimension = 400_000, 64
    vectors = np.random.default_rng(0).random((n, dimension), np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimension)
    pq.write_table(pa.table({"vector": lists}), tmp_path / "v.parquet", row_group_size=n)
    del vectors, lists
    before = pa.total_allocated_bytes()
    most = 0
    for _ in read_vectors(TableFiles.open(tmp_path / "v.parquet"), "vector", np.arange(n), dimension):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 0.6 * n * dimension * 4
