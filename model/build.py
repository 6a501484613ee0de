"""Builds and publishes a snapshot of a catalog: quantises, clusters, calibrates, writes, measures.

Vectors are read once, in chunks. Memory holds codes and residuals, which have the size of the index; the index is
written in the order of clusters without another copy. Every step gives the same bytes with any number of threads, so
that equal data and config give equal versions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from meshfold.kernels.vectors.quantize import FINE_MAX, Quantized, quantize
from meshfold.model.config import IndexConfig, PrecisionChoice
from meshfold.model.data.catalog import Catalog
from meshfold.model.errors import InvalidData
from meshfold.model.exports import check_programs
from meshfold.model.filter.index import layout_of, sign, take
from meshfold.model.filter.postings import postings_of
from meshfold.model.index.calibration import scan_budget
from meshfold.model.index.kmeans import Assigned, Centroids, assign, learn_centroids, spreads
from meshfold.model.index.numbering import side_by_side
from meshfold.model.index.recall import measure
from meshfold.model.precision import SampleUsers, choose
from meshfold.model.progress import Progress, silent
from meshfold.model.release import own_version
from meshfold.model.schema import Field, FieldKind
from meshfold.model.snapshot import (
    FILTER,
    INDEX,
    ITEMS,
    LISTS,
    OVER_ARCH,
    TENSOR_FILES,
    Content,
    Snapshot,
    write_manifest,
)
from meshfold.model.store import Store
from meshfold.model.strings import pack_at, pack_strings
from meshfold.model.tensor_file import FileMark, Streamed, gathered, map_tensors, write_bytes, write_tensors
from meshfold.model.types import Int64s
from meshfold.model.value.config import ValueConfig
from meshfold.model.value.formulas import ValueFormulas
from meshfold.model.value.program import compile_formulas

_ITEMS_AT_A_TIME = 65_536
# Range of the largest magnitude of all vectors; beyond it squared distances leave float32's range.
_SMALLEST_VALUE, _LARGEST_VALUE = 1e-15, 1e15


def publish(
    catalog: Catalog,
    store: Store,
    config: IndexConfig | None = None,
    progress: Progress = silent,
    source: str = "",
    programs: Mapping[str, bytes] | None = None,
    value: ValueConfig | None = None,
    evaluation: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    device: str = "cpu",
    precision: PrecisionChoice = PrecisionChoice.FLOAT32,
    users: SampleUsers | None = None,
) -> Path:
    """Builds a snapshot of the catalog and makes it the newest of its surface. Returns its folder.

    source: the catalog's origin, for people. programs: towers and OverArch by their names in a snapshot
    (model/exports.py). value: formulas; None for the built-in ones alone. evaluation: the training's metrics, for
    people. facts: further facts of the build. device: where vectors are quantised, clustered, calibrated and signed, a
    chunk at a time; the version does not depend on it. precision: of the OverArch's linear layers. users: sample for
    the choice of a precision. Raises InvalidData where a vector, program or formula cannot be used.
    """
    config = config or IndexConfig()
    programs = programs or {}
    check_programs(programs, catalog.schema, catalog.dimension)
    formulas = compile_formulas(catalog.schema, value or ValueConfig(), ranked=OVER_ARCH in programs)
    started = time.monotonic()
    with store.partial(catalog.schema.surface) as partial:
        content = _write(catalog, config, formulas, programs, partial, progress, torch.device(device))
        built: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "by": {"meshfold": own_version(), "torch": torch.__version__},
            "source": source,
            "items_without_vector": catalog.items_without_vector,
            "evaluation": dict(evaluation or {}),
            **(facts or {}),
        }
        tensors = [map_tensors(partial / name) for name in TENSOR_FILES]
        chosen, reasons = choose(Snapshot(partial, content, built, *tensors), precision, users, progress)
        content = replace(content, precision=chosen)
        if reasons:
            built["precision"] = reasons
        written = Snapshot(partial, content, built, *tensors)
        built["recall"] = measure(written, progress)
        built["seconds"] = round(time.monotonic() - started, 1)
        write_manifest(partial, content, built)
        return store.publish(catalog.schema.surface, partial, content.version)


def _write(
    catalog: Catalog,
    config: IndexConfig,
    formulas: ValueFormulas,
    programs: Mapping[str, bytes],
    folder: Path,
    progress: Progress,
    device: torch.device,
) -> Content:
    n = len(catalog.item_ids)
    # Three orders of items. place: in the catalog; row: by item id; position: by cluster, then row. All arrays but the
    # catalog's columns are in the order of rows, so that the result does not depend on the catalog's order.
    place_of_row = catalog.order()
    row_of_place = np.empty(n, np.int64)
    row_of_place[place_of_row] = np.arange(n)
    items = _quantized(catalog, row_of_place, progress, device)
    clusters = config.clusters_of(n)
    learnt = learn_centroids(items, clusters, config.iterations, config.seed, progress, device).to("cpu")
    centroids = learnt.in_order(side_by_side(learnt, config.seed))
    assigned = _assigned(items, centroids, progress, device)
    members, spread = assigned.members, spreads(assigned, clusters, catalog.dimension)

    row_of_position = np.argsort(members.numpy(), kind="stable").astype(np.int64)
    budget = scan_budget(items, members, centroids, spread, config, progress, device)
    sizes = np.bincount(members.numpy(), minlength=clusters)
    progress("writing", 0, 3)
    index = write_tensors(
        folder / INDEX,
        {
            "codes": gathered(items.codes.numpy(), row_of_position),
            "residuals": gathered(items.residuals.numpy(), row_of_position),
            "units": gathered(items.scales.numpy(), row_of_position),
            "rows": row_of_position.astype(np.int32),
            "offsets": np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
            "centroids": centroids.codes.numpy(),
            "centroid_units": centroids.scales.numpy(),
            "centroid_spreads": spread.numpy(),
        },
    )
    progress("writing", 1, 3)
    texts = _write_items(catalog, folder, place_of_row, row_of_position)
    progress("writing", 2, 3)
    filter_ = _write_filter(catalog, folder, place_of_row[row_of_position], str(device))
    progress("writing", 3, 3)
    return Content(
        schema=catalog.schema,
        config=config,
        items=n,
        dimension=catalog.dimension,
        clusters=clusters,
        scan_budget=budget,
        value=formulas,
        files={
            INDEX: index,
            ITEMS: texts,
            FILTER: filter_,
            **{name: write_bytes(folder / name, data) for name, data in programs.items()},
        },
    )


def _quantized(catalog: Catalog, row_of_place: Int64s, progress: Progress, device: torch.device) -> Quantized:
    """The quantised vectors of all items, in the order of rows."""
    n, d = len(catalog.item_ids), catalog.dimension
    items = Quantized(
        torch.empty((n, d), dtype=torch.int8),
        torch.empty((n, d), dtype=torch.int8),
        torch.empty(n, dtype=torch.float32),
    )
    done = 0
    for chunk in catalog.vectors():
        progress("quantising", done, n)
        end = done + len(chunk)
        if chunk.dtype != np.float32 or chunk.shape[1:] != (d,) or end > n:
            raise InvalidData(
                f"vectors must be [{n}, {d}] float32 in all, got a chunk {chunk.shape} at {done}"
            )
        broken = ~np.isfinite(chunk).all(1)
        if broken.any():
            worst = catalog.ids[done + int(np.argmax(broken))]
            raise InvalidData(f"the vector of item {worst} holds NaN or infinity; every value must be finite")
        part = quantize(torch.from_numpy(np.require(chunk, requirements=["C", "W"])).to(device))
        rows = torch.from_numpy(row_of_place[done:end])
        items.codes[rows], items.residuals[rows] = part.codes.cpu(), part.residuals.cpu()
        items.scales[rows] = part.scales.cpu()
        done = end
    if done != n:
        raise InvalidData(f"{n} items have {done} vectors; every item needs one")
    largest = float(items.scales.max()) * FINE_MAX
    if largest > 0 and not _SMALLEST_VALUE <= largest <= _LARGEST_VALUE:
        raise InvalidData(
            f"the largest value of all vectors is {largest:g}; scale them so that it lies in"
            f" {_SMALLEST_VALUE:g} to {_LARGEST_VALUE:g}"
        )
    progress("quantising", n, n)
    return items


def _assigned(items: Quantized, centroids: Centroids, progress: Progress, device: torch.device) -> Assigned:
    n = items.codes.shape[0]
    there = centroids.to(device)
    whole = Assigned(torch.empty(n, dtype=torch.int64), torch.empty(n, dtype=torch.float32))
    for start in range(0, n, _ITEMS_AT_A_TIME):
        progress("assigning", start, n)
        part = slice(start, start + _ITEMS_AT_A_TIME)
        nearest = assign(items.codes[part].to(device), items.scales[part].to(device), there)
        whole.members[part], whole.distances[part] = nearest.members.cpu(), nearest.distances.cpu()
    progress("assigning", n, n)
    return whole


def _write_items(
    catalog: Catalog,
    folder: Path,
    place_of_row: Int64s,
    row_of_position: Int64s,
) -> FileMark:
    most = catalog.popularity.max()
    popularity = (catalog.popularity / most if most > 0 else catalog.popularity).astype(np.float32)
    by_row = popularity[place_of_row]
    most_popular_first = np.argsort(-by_row, kind="stable")
    position_of_row = np.empty(len(place_of_row), np.int64)
    position_of_row[row_of_position] = np.arange(len(place_of_row))
    tensors: dict[str, npt.NDArray[Any] | Streamed] = {
        **_ids(catalog, place_of_row),
        "positions": position_of_row,
        "popularity": by_row[row_of_position],
        "popular": position_of_row[most_popular_first].astype(np.int32),
    }
    for f in catalog.schema.shown:
        texts = catalog.texts[f.name]
        offsets, data = pack_strings(map(texts.__getitem__, place_of_row[row_of_position].tolist()))
        tensors |= {f"text.{f.name}.offsets": offsets, f"text.{f.name}.bytes": data}
    return write_tensors(folder / ITEMS, tensors)


def _ids(catalog: Catalog, place_of_row: Int64s) -> dict[str, npt.NDArray[Any] | Streamed]:
    """Tensors of the ids. Integers: ids by row. Strings: ascending hashes, the row of each, and strings by row."""
    by_row = catalog.item_ids[place_of_row]
    if catalog.names is None:
        return {"item_ids": by_row}
    row_of_hash = np.argsort(by_row, kind="stable")
    offsets, data = pack_at(catalog.names, place_of_row)
    return {
        "item_ids": by_row[row_of_hash],
        "id.rows": row_of_hash.astype(np.int32),
        "id.offsets": offsets,
        "id.bytes": data,
    }


def _write_filter(catalog: Catalog, folder: Path, order: Int64s, device: str) -> FileMark:
    layout = layout_of(catalog.schema, catalog.columns)
    fields = catalog.schema.filterable
    columns = [catalog.columns[f.name] for f in fields]
    by_position = [take(column, order) for column in columns]
    lists = postings_of(layout, by_position)
    tensors: dict[str, npt.NDArray[Any] | Streamed] = {
        "signature": sign(layout, columns, order, device),
        **{name: getattr(lists, name.removeprefix("lists.")) for name in LISTS},
    }
    for f, column, index, (lengths, values) in zip(fields, columns, layout.fields, by_position, strict=True):
        stored = np.int32 if _fits_int32(f, values) else np.int64
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        if not f.kind.many:
            values, offsets = _dense(lengths, values), np.empty(0, np.int64)
        tensors |= {f"column.{f.name}": values.astype(stored), f"offsets.{f.name}": offsets}
        if f.kind is not FieldKind.NUMBER:
            tensors[f"plane.{f.name}"] = index.plane_values
        if index.bloom is not None:
            tensors[f"bloom.{f.name}"] = np.array([index.bloom.part, index.bloom.hashes], np.int64)
        if column.vocabulary is not None:
            words, data = pack_strings(column.vocabulary)
            tensors |= {f"vocabulary.{f.name}.offsets": words, f"vocabulary.{f.name}.bytes": data}
    return write_tensors(folder / FILTER, tensors)


def _fits_int32(field: Field, values: Int64s) -> bool:
    """Whether a column is stored as int32: all values fit, and the kind is not number, whose keys stay int64."""
    limits = np.iinfo(np.int32)
    if field.kind is FieldKind.NUMBER:
        return False
    return not len(values) or bool(limits.min <= values.min() and values.max() <= limits.max)


def _dense(lengths: Int64s, values: Int64s) -> Int64s:
    """The value of each item; 0 for items without one, which the signature marks."""
    dense = np.zeros(len(lengths), np.int64)
    dense[lengths > 0] = values
    return dense
