"""Candidates in the order of their values, and the lists that follow from changing them."""

from __future__ import annotations

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
        # Ids of one surface are of one kind; those of two never meet in one comparison of a sort.
        ordered = sorted(values, key=lambda entry: (-entry[1], isinstance(entry[0], str), entry[0]))
        return cls([item for item, _ in ordered], [value for _, value in ordered])

    @cached_property
    def value_of(self) -> Mapping[Item, float]:
        return dict(zip(self.ids, self.values, strict=True))

    def top(self, k: int) -> frozenset[Item]:
        return frozenset(self.ids[:k])

    def changed(self, without: Collection[Item], added: Mapping[Item, float]) -> Ranking:
        """The ranking less some items and with others; an item that is in it keeps its value."""
        if not without and all(item in self.value_of for item in added):
            return self
        return Ranking.of({**added, **{i: v for i, v in self.value_of.items() if i not in without}}.items())

    def valued(self, values: Mapping[Item, float]) -> Ranking:
        """The same items by other values; items without one are left out."""
        return Ranking.of((item, values[item]) for item in self.ids if item in values)
