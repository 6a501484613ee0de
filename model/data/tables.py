"""A surface from Parquet or CSV tables and the schema file that describes them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from meshfold.model.data.catalog import Catalog, no_vectors
from meshfold.model.data.encoding import encode_column, encode_text
from meshfold.model.data.ids import TableIds, read_item_ids, read_unique_ids, read_user_ids
from meshfold.model.data.interactions import Interactions
from meshfold.model.data.joins import check_join
from meshfold.model.data.request_features import RequestFeatures
from meshfold.model.data.schema_file import SchemaFile
from meshfold.model.data.selection import names_in, select_rows
from meshfold.model.data.table_column import TableColumn
from meshfold.model.data.table_files import TableFiles
from meshfold.model.data.times import times_of
from meshfold.model.data.vector_file import read_vectors, vector_dimension, with_vectors
from meshfold.model.errors import InvalidData
from meshfold.model.schema import FieldKind, Schema
from meshfold.model.types import Float32s
from meshfold.model.value.config import ValueConfig


class TableSource:
    """A Source (source.py) of tables of items and interactions."""

    def __init__(self, path: Path) -> None:
        self._described = SchemaFile.read(path)
        self._ids: TableIds | None = None
        self._interactions: Interactions | None = None

    @property
    def schema(self) -> Schema:
        return replace(self._described.schema, ids=self._item_ids().kind)

    @property
    def value(self) -> ValueConfig | None:
        return self._described.value

    @property
    def has_vectors(self) -> bool:
        return bool(self._described.items.vector)

    def catalog(self, vectors: Path | None = None) -> Catalog:
        items, fields = self._described.items, self._described.fields
        files = TableFiles.open(items.source)
        columns = {*(f.column for f in fields), *([items.popularity] if items.popularity else [])}
        read = files.read([items.id, *columns])
        ids = self._ids = self._ids or read_unique_ids(read[items.id], items.ids)
        item_ids = ids.keys
        if not len(item_ids):
            raise InvalidData(
                f"{items.source}: holds no row; surface {self._described.schema.surface} has no items"
            )
        if items.popularity:
            popularity = popularity_of(read[items.popularity])
        else:
            met = self.interactions()
            popularity = np.zeros(len(item_ids), np.float32) if met is None else met.popularity(item_ids)
        catalog = Catalog(
            schema=self.schema,
            item_ids=item_ids,
            columns={
                f.field.name: encode_column(f.field.kind, read[f.column], f.separator)
                for f in fields
                if f.field.kind is not FieldKind.TEXT
            },
            texts={
                f.field.name: encode_text(read[f.column]) for f in fields if f.field.kind is FieldKind.TEXT
            },
            popularity=popularity,
            vectors=no_vectors,
            dimension=0,
            names=ids.names,
        )
        if vectors is not None:
            return with_vectors(catalog, vectors)
        if not items.vector:
            return catalog
        dimension = vector_dimension(files, items.vector)
        stream = partial(read_vectors, files, items.vector, ids.ids, dimension)
        return replace(catalog, vectors=stream, dimension=dimension)

    def interactions(self) -> Interactions | None:
        table = self._described.interactions
        if table is None or self._interactions is not None:
            return self._interactions
        tasks = self._described.tasks
        filtered = {name for where in tasks.values() if where is not None for name in names_in(where)}
        read = TableFiles.open(table.source).read([table.user, table.item, table.time, *filtered])
        rows = len(read[table.user])
        known = self._item_ids()
        met = read_item_ids(read[table.item], known.kind)
        check_join(table.source, met.keys, met.ids, known.keys, known.ids, table.unknown_share)
        self._interactions = Interactions(
            user_ids=read_user_ids(read[table.user]),
            item_ids=met.keys,
            times=times_of(read[table.time]),
            tasks={
                name: np.ones(rows, bool) if where is None else select_rows(where, read, rows)
                for name, where in tasks.items()
            },
        )
        return self._interactions

    def features(self) -> RequestFeatures | None:
        table, inputs = self._described.interactions, self._described.schema.inputs
        if table is None or not inputs:
            return None
        files = TableFiles.open(table.source)
        return RequestFeatures.of(inputs, files.read([i.name for i in inputs if i.name in files.columns]))

    def _item_ids(self) -> TableIds:
        """The ids of the items, read once."""
        if self._ids is None:
            items = self._described.items
            column = TableFiles.open(items.source).read([items.id])[items.id]
            self._ids = read_unique_ids(column, items.ids)
        return self._ids


def popularity_of(column: TableColumn) -> Float32s:
    """[N] float32 - popularity; 0 for a missing one. Raises InvalidData for a negative or infinite one."""
    values = np.asarray(column.floats().fill_null(0.0).to_numpy(), np.float64)
    good = (values >= 0) & (values <= np.finfo(np.float32).max)
    if not good.all():
        raise column.fault(int(np.argmin(good)), "popularity must be finite and at least 0; mend the row")
    return values.astype(np.float32)
