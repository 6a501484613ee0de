"""Candidates in the order of their values, and the lists that follow from changing them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property

from meshfold.compat.shadow.catalog import Item


class Ranking:
    """Items by descending value; ties go to the smaller id."""

    def __init__(self, ids: list[Item], values: list[float]) -> None:
        """ids, values: in order."""
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
        """The ranking less some items and with others; an item that is in it keeps its value."""
        new = {item: value for item, value in added.items() if item not in self.value_of}
        gone = [item for item in without if item in self.value_of]
        if not new and not gone:
            return self
        ids, values = [*self.ids], [*self.values]
        for item in gone:
            place = ids.index(item)
            del ids[place], values[place]
        for item, value in new.items():
            # Candidates are thousands, changes few: no sort of all of them.
            place = bisect_left(
                range(len(ids)), _place((item, value)), key=lambda i: _place((ids[i], values[i]))
            )
            ids.insert(place, item)
            values.insert(place, value)
        return Ranking(ids, values)

    def valued(self, values: Mapping[Item, float]) -> Ranking:
        """The same items by other values; items without one are left out."""
        return Ranking.of((item, values[item]) for item in self.ids if item in values)


def _place(entry: tuple[Item, float]) -> tuple[float, bool, Item]:
    """What orders items: ids of two kinds never meet in one comparison."""
    return -entry[1], isinstance(entry[0], str), entry[0]
