"""The items of a snapshot as a comparison needs them: eligibility by exact columns, field values and titles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from meshfold.compat.mesh_v1 import retrieve
from meshfold.compat.shadow.comparison import ItemText
from meshfold.compat.shadow.pairs import Pair
from meshfold.kernels.filter.exact import filter_exact
from meshfold.model.data.catalog import numbers_of_keys
from meshfold.model.errors import InvalidQuery, SnapshotRefused
from meshfold.model.filter.expression import Expression
from meshfold.model.filter.program import FilterCompiler
from meshfold.model.filter.text import parse_filter
from meshfold.model.schema import FieldKind, IdKind
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.model.types import Ids, Int64s, Query, no_ids

Item = int | str

# Names of text fields used as titles, in order of preference; without any of them, the first text field.
_TITLES = ("title", "name", "headline")


@dataclass(frozen=True, eq=False)
class Admission:
    """The items admitted by a request. filter: None where every item passes. excluded: ids of excluded items."""

    filter: Expression | None
    excluded: frozenset[Item]


class SnapshotCatalog:
    """A Catalog (comparison.py) over a snapshot. Thread-safe."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._schema = snapshot.schema
        self._ids = snapshot.item_ids()
        self._positions: Int64s = snapshot.items["positions"].numpy()
        self._signature = snapshot.filter["signature"]
        self._columns, self._offsets = snapshot.columns()
        self._held = [column.numpy() for column in self._columns]
        self._bounds = [offsets.numpy() for offsets in self._offsets]
        self._present = self._signature.numpy()
        self._vocabularies = snapshot.vocabularies()
        self._texts = snapshot.texts()
        self._places = {f.name: place for place, f in enumerate(self._schema.filterable)}
        self._compiler = FilterCompiler(self._schema, self._vocabularies, snapshot.layout())
        shown = [f.name for f in self._schema.shown]
        self._title = next((name for name in _TITLES if name in shown), shown[0] if shown else "")

    @classmethod
    def open(cls, store: Path, surface: str) -> Self:
        """Opens the newest snapshot of a surface. Raises SnapshotRefused where there is none, or none is whole."""
        published = Store(store).published(surface)
        if not published:
            raise SnapshotRefused(
                f"{store}: holds no snapshot of surface {surface!r}; publish one with `meshfold build`"
            )
        return cls(Snapshot.open(published[0], surface))

    @property
    def version(self) -> str:
        """The snapshot's version."""
        return self.snapshot.version

    @property
    def fields(self) -> Sequence[str]:
        """Fields of categories, which have many items for each value."""
        return [f.name for f in self._schema.filterable if f.kind.holds_strings]

    def violations(self, pair: Pair, item_ids: Sequence[Item]) -> int | None:
        """The number of items that the pair's request does not admit, without items that the snapshot lacks; None where
        the request's filter is unknown or does not fit the snapshot's schema."""
        try:
            admission = admission_of(pair, self._schema.exclude_history)
            return None if admission is None else len(self.not_admitted(admission, item_ids))
        except InvalidQuery:
            return None

    def known(self, item_ids: Sequence[Item]) -> int:
        """The number of items that the snapshot has."""
        return int((self.positions(item_ids) >= 0).sum())

    def not_admitted(self, admission: Admission, item_ids: Sequence[Item]) -> list[Item]:
        """The items that are in the snapshot but not admitted. Raises InvalidQuery where the filter does not fit the
        schema."""
        known = [
            (item, place) for item, place in zip(item_ids, self.positions(item_ids).tolist(), strict=True)
        ]
        known = [(item, place) for item, place in known if place >= 0]
        passes = self.passes(admission.filter, np.array([place for _, place in known], np.int64)).tolist()
        return [
            item
            for (item, _), passed in zip(known, passes, strict=True)
            if not passed or item in admission.excluded
        ]

    def passes(self, expression: Expression | None, positions: Int64s) -> npt.NDArray[np.bool_]:
        """For each item, whether it passes the filter by its exact columns: [n] bool. positions: [n] int64.

        Raises InvalidQuery where the filter does not fit the schema.
        """
        if expression is None:
            return np.ones(len(positions), np.bool_)
        program = self._compiler.compile(expression)
        passed: npt.NDArray[np.bool_] = filter_exact(
            *(self._signature, self._columns, self._offsets),
            *(torch.from_numpy(program.steps), torch.from_numpy(program.values), torch.from_numpy(positions)),
        ).numpy()
        return passed

    def positions(self, item_ids: Sequence[Item]) -> Int64s:
        """The position of each item, -1 for unknown items: [n] int64."""
        ids = self._own(item_ids)
        if ids is None:
            return np.full(len(item_ids), -1, np.int64)
        rows = self._ids.rows_of(ids)
        return np.where(rows >= 0, self._positions[rows], -1)

    def values(self, item_id: Item, field: str) -> tuple[str, ...]:
        """An item's values of a filterable field; empty where item or field are unknown or the item lacks the field."""
        position = int(self.positions([item_id])[0])
        place = self._places.get(field)
        return () if position < 0 or place is None else self._values_at(position, place)

    def _values_at(self, position: int, place: int) -> tuple[str, ...]:
        field, column = self._schema.filterable[place], self._held[place]
        # Called for every item of every answer; numpy takes a tenth of the time of torch.
        if len(offsets := self._bounds[place]):
            held = column[offsets[position] : offsets[position + 1]]
        else:
            bits = int(self._present[position >> 9, place, (position >> 6) & 7])
            held = column[position : position + (bits >> (position & 63) & 1)]
        if field.kind.holds_strings:
            words = self._vocabularies[field.name]
            return tuple(words[code] for code in held.tolist())
        if field.kind is FieldKind.NUMBER:
            return tuple(f"{number:g}" for number in numbers_of_keys(held.astype(np.int64)).tolist())
        return tuple(str(number) for number in held.tolist())

    def text(self, item_id: Item) -> ItemText:
        """The title of an item and its values of all filterable fields; empty where the snapshot lacks it."""
        position = int(self.positions([item_id])[0])
        if position < 0:
            return ItemText()
        title = self._texts[self._title][position] if self._title else ""
        fields = {name: ", ".join(self._values_at(position, place)) for name, place in self._places.items()}
        return ItemText(title, {name: text for name, text in fields.items() if text})

    def fits(self, item_ids: Sequence[Item]) -> bool:
        """Whether the ids have the kind of the snapshot's ids."""
        return self._own(item_ids) is not None

    def _own(self, item_ids: Sequence[Item]) -> Ids | None:
        """The ids as Ids; None where they have the wrong kind."""
        if self._schema.ids is IdKind.STRINGS:
            return tuple(map(str, item_ids)) if all(isinstance(i, str) for i in item_ids) else None
        if not all(isinstance(i, int) and -(1 << 63) <= i < 1 << 63 for i in item_ids):
            return None
        return np.array(item_ids, np.int64)


def admission_of(pair: Pair, excludes_history: bool) -> Admission | None:
    """The items admitted by the pair's request; None where unknown. excludes_history: whether the surface excludes
    items of the user's history. A redacted request counts with its filter and the remaining ids of its lists.

    Raises InvalidQuery for a filter that does not parse.
    """
    if pair.request:
        return admission_of_query(retrieve.decode(pair.request), excludes_history)
    if pair.filter is None:
        return None
    return Admission(parse_filter(pair.filter) if pair.filter else None, frozenset())


def admission_of_query(query: Query, excludes_history: bool) -> Admission:
    lists = (query.excluded_ids, query.history if excludes_history else no_ids())
    excluded = frozenset(item for ids in lists for item in plain(ids))
    return Admission(query.filter, excluded)


def plain(ids: Ids) -> list[Item]:
    """Ids as a list of Python integers or strings."""
    numbers: list[Item] = list(ids) if isinstance(ids, tuple) else ids.tolist()
    return numbers
