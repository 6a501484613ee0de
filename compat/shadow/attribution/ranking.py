"""Candidates ordered by value, with changes of items and values."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property

from meshfold.compat.shadow.catalog import Item


class Ranking:
    """Items by descending value; ties go to the smaller id."""

    def __init__(self, ids: list[Item], values: list[float]) -> None:
        """ids, values: sorted already."""
        self.ids = ids
        self.values = values

    @classmethod
    def of(cls, values: Iterable[tuple[Item, float]]) -> Ranking:
        ordered = sorted(values, key=_place)
        return cls([item for item, _ in ordered], [value for _, value in ordered])

    @cached_property
    def value_of(self) -> Mapping[Item, float]:
        return dict(zip(self.ids, self.values, strict=True))

    def top(self, k: int) -> frozenset[Item]:
        return frozenset(self.ids[:k])

    def changed(self, without: Collection[Item], added: Mapping[Item, float]) -> Ranking:
        """The ranking without some items and with added ones; an item that it has already keeps its value."""
        new = {item: value for item, value in added.items() if item not in self.value_of}
        gone = [item for item in without if item in self.value_of]
        if not new and not gone:
            return self
        ids, values = [*self.ids], [*self.values]
        for item in gone:
            place = ids.index(item)
            del ids[place], values[place]
        for item, value in new.items():
            # Inserted one by one, since there are few changes among thousands of candidates.
            place = bisect_left(
                range(len(ids)), _place((item, value)), key=lambda i: _place((ids[i], values[i]))
            )
            ids.insert(place, item)
            values.insert(place, value)
        return Ranking(ids, values)

    def valued(self, values: Mapping[Item, float]) -> Ranking:
        """The same items ranked by other values, without items that have none."""
        return Ranking.of((item, values[item]) for item in self.ids if item in values)


def _place(entry: tuple[Item, float]) -> tuple[float, bool, Item]:
    """The sort key of an item. Its bool separates integer and string ids, which cannot be compared."""
    return -entry[1], isinstance(entry[0], str), entry[0]
