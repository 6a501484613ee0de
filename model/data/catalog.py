"""A catalog in memory: ids, encoded columns, and item vectors as an iterator of chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from meshfold.model.errors import InvalidData
from meshfold.model.schema import FieldKind, IdKind, Schema
from meshfold.model.strings import order_of
from meshfold.model.types import Float32s, Float64s, Int64s


@dataclass(frozen=True, eq=False)
class Column:
    """A filterable field of N items as integers, so that every comparison is exact.

    offsets: [N + 1] int64. values: [offsets[N]] int64; item i has values[offsets[i]:offsets[i + 1]], sorted and without
    duplicates, none where it lacks the field. A category is an index into `vocabulary` (sorted), an integer is itself,
    a number is its sort key (number_keys). vocabulary: None where the kind holds no strings.
    """

    kind: FieldKind
    offsets: Int64s
    values: Int64s
    vocabulary: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of_strings(cls, kind: FieldKind, rows: Sequence[Sequence[str]]) -> Column:
        vocabulary = tuple(sorted({value for row in rows for value in row}))
        code = {value: place for place, value in enumerate(vocabulary)}
        return cls(kind, *_ragged([sorted({code[v] for v in row}) for row in rows]), vocabulary)

    @classmethod
    def of_integers(cls, kind: FieldKind, rows: Sequence[Sequence[int]]) -> Column:
        return cls(kind, *_ragged([sorted(set(row)) for row in rows]))

    @classmethod
    def of_numbers(cls, values: Float64s) -> Column:
        """A number field. values: [N] float64 - NaN where the item lacks the field."""
        present = ~np.isnan(values)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(present, dtype=np.int64)])
        return cls(FieldKind.NUMBER, offsets, number_keys(values[present]))


def number_keys(values: Float64s) -> Int64s:
    """[n] int64 keys that sort like the numbers; -0.0 equals 0.0. values: [n] float64 without NaN."""
    bits = (values + 0.0).view(np.int64)
    return bits ^ ((bits >> 63) & np.int64(0x7FFF_FFFF_FFFF_FFFF))


def numbers_of_keys(keys: Int64s) -> Float64s:
    """The inverse of number_keys."""
    return (keys ^ ((keys >> 63) & np.int64(0x7FFF_FFFF_FFFF_FFFF))).view(np.float64)


@dataclass(frozen=True, eq=False)
class Catalog:
    """All items of a surface, in any order.

    item_ids: [N] int64, each once - integers, or hashes of strings (item_ids.keys_of_strings). names: the ids where
    they are strings, None where they are integers. columns: one for each filterable field. texts: for each text field a
    string an item, "" where it lacks the field. popularity: [N] float32, at least 0 - the ranking for a user without
    history and features. vectors: returns a new iterator over [n, D] float32 chunks in the order of item_ids; raises
    InvalidData where dimension is 0, which means that the catalog has no vectors yet. items_without_vector: number of
    items with a vector of zeros because the file of vectors lacks them.
    """

    schema: Schema
    item_ids: Int64s
    columns: Mapping[str, Column]
    vectors: Callable[[], Iterator[Float32s]]
    dimension: int
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    popularity: Float32s = field(default_factory=lambda: np.empty(0, np.float32))
    items_without_vector: int = 0
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        n = len(self.item_ids)
        if n == 0:
            raise InvalidData(f"the catalog of surface {self.schema.surface} has no items")
        if (self.names is not None) != (self.schema.ids is IdKind.STRINGS):
            raise InvalidData(
                f"the schema says that item ids are {self.schema.ids}; names are for strings alone"
            )
        if self.names is not None and len(self.names) != n:
            raise InvalidData(f"names has {len(self.names)} ids for {n} items")
        self._refuse_doubles()
        for name in (f.name for f in self.schema.filterable):
            if name not in self.columns or len(self.columns[name]) != n:
                raise InvalidData(f"field {name} must have one row for each of the {n} items")
        for name in (f.name for f in self.schema.shown):
            if name not in self.texts or len(self.texts[name]) != n:
                raise InvalidData(f"field {name} must have one text for each of the {n} items")
        if len(self.popularity) == 0:
            object.__setattr__(self, "popularity", np.zeros(n, np.float32))
        if len(self.popularity) != n:
            raise InvalidData(f"popularity has {len(self.popularity)} values for {n} items")
        if not (np.isfinite(self.popularity).all() and (self.popularity >= 0).all()):
            raise InvalidData("popularity must be finite and at least 0 for every item")

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def ids(self) -> Int64s | Sequence[str]:
        """The ids of the data: strings where ids are strings, else integers."""
        return self.item_ids if self.names is None else self.names

    def order(self) -> Int64s:
        """[N] int64: the places of the items in the order of ids. Strings are ordered by their bytes."""
        if self.names is None:
            return np.argsort(self.item_ids, kind="stable")
        return order_of(self.names)

    def _refuse_doubles(self) -> None:
        doubles = repeated(self.item_ids)
        if not len(doubles):
            return
        first, second = np.flatnonzero(self.item_ids == doubles[0])[:2].tolist()
        if self.ids[first] != self.ids[second]:
            raise InvalidData(
                f"the ids {self.ids[first]!r} and {self.ids[second]!r} have one 64-bit hash; rename one"
            )
        raise InvalidData(
            f"{len(doubles)} item ids occur more than once, such as {self.ids[first]}; give each item one row"
        )

    def with_array(self, vectors: Float32s) -> Self:
        """The same catalog with vectors from memory: [N, D] float32, in the order of item_ids."""
        if vectors.ndim != 2 or len(vectors) != len(self) or vectors.shape[1] == 0:
            raise InvalidData(f"vectors must be [{len(self)}, D], got {list(vectors.shape)}")
        check_vectors(vectors, self.ids, "vectors")

        def chunks() -> Iterator[Float32s]:
            for start in range(0, len(vectors), VECTORS_PER_CHUNK):
                yield np.ascontiguousarray(vectors[start : start + VECTORS_PER_CHUNK], np.float32)

        return replace(self, vectors=chunks, dimension=vectors.shape[1], items_without_vector=0)


VECTORS_PER_CHUNK = 65_536


def no_vectors() -> Iterator[Float32s]:
    """The `vectors` of a catalog that has none: raises InvalidData."""
    raise InvalidData("the items have no vectors; make them with 'meshfold vectors', or name a vector column")


def check_vectors(vectors: Float32s, ids: Int64s | Sequence[str], where: str) -> None:
    """Raises InvalidData that names the first item whose vector is not finite. vectors: [n, D]. ids: [n]."""
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        bad = ids[int(np.argmin(finite))]
        raise InvalidData(
            f"{where}: the vector of item {bad} holds NaN or a number beyond float32; "
            "vectors must be finite: drop the item or mend its vector"
        )


def repeated(ids: Int64s) -> Int64s:
    """Ids that occur more than once, ascending: [m] int64. ids: [n] int64."""
    if len(ids) < 2 or (ids[1:] > ids[:-1]).all():
        return np.empty(0, np.int64)
    ordered = np.sort(ids)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def _ragged(rows: Sequence[Sequence[int]]) -> tuple[Int64s, Int64s]:
    lengths: npt.NDArray[np.int64] = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return offsets, np.fromiter((v for row in rows for v in row), np.int64, int(offsets[-1]))
