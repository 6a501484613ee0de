"""A chain of lists from the model's answer to the mesh's, each of which undoes one cause more.

    model's answer .. what its index finds .. exact list .. by the mesh's vectors .. by its scores .. mesh's answer

Two neighbouring lists differ by one cause. An item in only one answer enters or leaves the lists at some step; undoing
the causes from one end up to that step restores it, and the cause of that step is its cause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meshfold.compat.shadow.catalog import Item
from meshfold.compat.shadow.comparison import Cause

# Order of preference where the two ends of the chain lead to different causes: faults before noise.
_PRECEDENCE = (
    Cause.MODEL_CATALOG,
    Cause.MESH_CATALOG,
    Cause.MODEL_FILTER,
    Cause.MESH_FILTER,
    Cause.USER_VECTOR,
    Cause.SCORES,
    Cause.MERGE,
    Cause.CAP,
    Cause.MESH_ANN_MISS,
    Cause.MODEL_ANN_MISS,
    Cause.PRECISION,
    Cause.TIE,
    Cause.UNKNOWN,
)
_ROUNDING = (Cause.PRECISION, Cause.TIE)


@dataclass(frozen=True)
class Step:
    """A step of the chain. items: the list after it. cause_of: the cause of an item that is in only one of this list
    and the list before."""

    items: frozenset[Item]
    cause_of: Callable[[Item], Cause]


class Chain:
    """A chain of lists. It begins at the model's answer; the last step must lead to the mesh's."""

    def __init__(self, model: frozenset[Item]) -> None:
        self._first = model
        self._steps: list[Step] = []

    def add(self, items: frozenset[Item], cause_of: Cause | Callable[[Item], Cause]) -> None:
        if items != (self._steps[-1].items if self._steps else self._first):
            named = (lambda _: cause_of) if isinstance(cause_of, Cause) else cause_of
            self._steps.append(Step(items, named))

    def cause_of(self, item: Item) -> Cause:
        """The cause of an item that is in only one of the first and the last list."""
        first, last = item in self._first, item in self._steps[-1].items
        before = [first, *(item in step.items for step in self._steps)]
        # From the model's end, the first list that agrees on the item with the mesh's answer; from the mesh's end, the
        # first that agrees with the model's.
        from_model = next(i for i, step in enumerate(self._steps) if before[i + 1] == last)
        from_mesh = next(i for i in reversed(range(len(self._steps))) if before[i] == first)
        ends = {from_model: 0, from_mesh: len(self._steps) - 1}
        causes = {i: self._steps[i].cause_of(item) for i in ends}
        # Where the step at an end restores the item by rounding alone, no other cause is needed.
        alone = [cause for i, cause in causes.items() if i == ends[i] and cause in _ROUNDING]
        return min(alone or causes.values(), key=_PRECEDENCE.index)
