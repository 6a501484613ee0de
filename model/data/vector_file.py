"""Item vectors in Parquet files: reading in batches, writing for `meshfold vectors`, joining to a catalog."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meshfold.model.data.catalog import VECTORS_PER_CHUNK, Catalog, check_vectors
from meshfold.model.data.column_types import is_any_list
from meshfold.model.data.ids import read_unique_ids
from meshfold.model.data.interactions import places_of
from meshfold.model.data.table_files import TableFiles
from meshfold.model.errors import InvalidData
from meshfold.model.types import Float32s, Int64s

MAX_DIMENSION = 4096
ID, VECTOR = "item_id", "vector"


def vector_dimension(files: TableFiles, column: str) -> int:
    """The dimension of the vectors in a column of lists of floats, from its type or its first row.

    Raises InvalidData for CSV, for another type and for a dimension outside 1 to MAX_DIMENSION.
    """
    if files.is_csv:
        raise InvalidData(
            f"{files.path}: column {column} must hold lists of floats in Parquet, got CSV; write the vectors in Parquet"
        )
    dimension = 0
    for file, kind in files.types_of(column):
        kind = _storage(kind)
        element = kind.value_type if is_any_list(kind) else None
        # A column without values may have the null type.
        if not pa.types.is_null(kind) and (
            element is None or not (pa.types.is_floating(element) or pa.types.is_null(element))
        ):
            raise InvalidData(
                f"{file}: column {column} must hold lists of floats in Parquet, got {kind}; "
                "write the vectors as list<float>"
            )
    for _, batch in files.stream(column, rows=1):
        batch = _stored(batch)
        if len(batch):
            fixed = batch.type.list_size if _fixed(batch.type) else 0
            dimension = fixed or (len(batch[0]) if batch[0].is_valid else 0)
            break
    if not 1 <= dimension <= MAX_DIMENSION:
        raise InvalidData(
            f"{files.path}: the first vector of column {column} has {dimension} numbers; "
            f"vectors have 1 to {MAX_DIMENSION}"
        )
    return int(dimension)


def read_vectors(
    files: TableFiles, column: str, item_ids: Int64s | Sequence[str], dimension: int
) -> Iterator[Float32s]:
    """Yields chunks [n, D] float32 of the column. item_ids: [N] - the ids of its rows, in order.

    Raises InvalidData at the first vector that is missing, of another dimension, or not finite in float32.
    """
    done = 0
    # Chunks have about the same number of bytes for every dimension, which limits memory.
    rows = max(1, min(VECTORS_PER_CHUNK, (32 << 20) // (4 * dimension)))
    for file, batch in files.stream(column, rows):
        if not len(batch):
            continue
        batch = _stored(batch)
        ids = item_ids[done : done + len(batch)]
        if batch.null_count:
            bad = ids[int(np.argmax(batch.is_null().to_numpy(zero_copy_only=False)))]
            raise InvalidData(f"{file}: item {bad} has no vector; drop the item or give it one")
        flat = batch.flatten()
        if not _fixed(batch.type):
            lengths = pc.list_value_length(batch).to_numpy()
            if (lengths != dimension).any():
                place = int(np.argmax(lengths != dimension))
                raise InvalidData(
                    f"{file}: the vector of item {ids[place]} has {lengths[place]} numbers, "
                    f"that of the first has {dimension}; all need the same dimension"
                )
        elif batch.type.list_size != dimension:
            raise InvalidData(
                f"{file}: the vectors have {batch.type.list_size} numbers, expected {dimension}; "
                "write all files with one dimension"
            )
        flat = flat.cast(pa.float32()) if pa.types.is_null(flat.type) else flat
        # A null inside a vector becomes NaN, which check_vectors refuses.
        with np.errstate(over="ignore"):
            numbers = np.asarray(flat.to_numpy(zero_copy_only=False)).astype(np.float32)
        chunk = numbers.reshape(len(batch), dimension)
        check_vectors(chunk, ids, str(file))
        yield chunk
        done += len(batch)


def write_vectors(
    path: Path, item_ids: Int64s | Sequence[str], chunks: Iterable[Float32s], dimension: int
) -> None:
    """Writes a Parquet file of item_id and vector, by one rename of a finished file.

    item_ids: [N] int64 or strings. chunks: [n, D] float32 each.
    """
    kind = pa.int64() if isinstance(item_ids, np.ndarray) else pa.large_string()
    schema = pa.schema([(ID, kind), (VECTOR, pa.list_(pa.float32(), dimension))])
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    done = 0
    try:
        with pq.ParquetWriter(unfinished, schema, use_dictionary=False, compression="none") as writer:
            for chunk in chunks:
                ids = pa.array(item_ids[done : done + len(chunk)], kind)
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(chunk.reshape(-1)), dimension)
                writer.write_batch(pa.record_batch([ids, vectors], schema=schema))
                done += len(chunk)
        os.replace(unfinished, path)
    except OSError as fault:
        raise InvalidData(f"{path}: cannot be written: {fault.strerror or fault}") from fault
    finally:
        unfinished.unlink(missing_ok=True)


def with_vectors(catalog: Catalog, path: Path) -> Catalog:
    """The catalog with the vectors of a Parquet file of item_id and vector, joined by id.

    Items that the file lacks get a vector of zeros and count in items_without_vector. A file in the order of the
    catalog is read as a stream; one in another order is read into memory. Raises InvalidData for unknown items.
    """
    files = TableFiles.open(path)
    files.check(VECTOR)
    read = read_unique_ids(files.read([ID])[ID], catalog.schema.ids)
    ids = read.keys
    rows = places_of(ids, catalog.item_ids)
    if (rows < 0).any():
        raise InvalidData(
            f"{path}: item {read.ids[int(np.argmin(rows))]} is not in the catalog, nor are "
            f"{int((rows < 0).sum()) - 1} others; make the vectors from the same data"
        )
    dimension = vector_dimension(files, VECTOR)
    stream = partial(read_vectors, files, VECTOR, read.ids, dimension)
    missing = len(catalog) - len(ids)
    if (rows[1:] > rows[:-1]).all():
        chunks = partial(_spread, stream, rows, len(catalog), dimension)
        return replace(catalog, vectors=chunks, dimension=dimension, items_without_vector=missing)
    joined = np.zeros((len(catalog), dimension), np.float32)
    done = 0
    for chunk in stream():
        joined[rows[done : done + len(chunk)]] = chunk
        done += len(chunk)
    return replace(catalog.with_array(joined), items_without_vector=missing)


def _spread(stream: partial[Iterator[Float32s]], rows: Int64s, n: int, dimension: int) -> Iterator[Float32s]:
    """Yields chunks that cover all n rows: the stream's vectors at the ascending `rows`, zeros at the others."""
    done = covered = 0
    for chunk in stream():
        targets = rows[done : done + len(chunk)]
        done += len(chunk)
        end = n if done == len(rows) else int(targets[-1]) + 1
        while covered < end:
            stop = min(end, covered + VECTORS_PER_CHUNK)
            out = np.zeros((stop - covered, dimension), np.float32)
            inside = slice(*np.searchsorted(targets, [covered, stop]))
            out[targets[inside] - covered] = chunk[inside]
            yield out
            covered = stop


def _fixed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind))


def _storage(kind: pa.DataType) -> pa.DataType:
    """The storage type of an extension type, such as a tensor; other types unchanged."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _stored(batch: pa.Array) -> pa.Array:
    return batch.storage if isinstance(batch.type, pa.BaseExtensionType) else batch
