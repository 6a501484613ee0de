"""A budget shared by several holders, of which one holder cannot take everything."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from meshfold.model.errors import Overloaded


class Shares:
    """A budget of which each holder may use at most as much as is still free.

    A single holder gets half of the budget and n holders get n / (n + 1) of it, so that a share is always left for the
    next. The rule is the dynamic threshold of switches with shared memory (Choudhury and Hahne, 1998). Not thread-safe.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._held: dict[Hashable, int] = {}

    def take(self, holder: Hashable, amount: int) -> bool:
        """Takes an amount for a holder, to be given back later; returns whether it was free."""
        held = self._held.get(holder, 0) + amount
        left = self.budget - self.used - amount
        # An unused budget admits any amount that fits. The last free unit goes only to a holder that has none.
        if left < 0 or (held > max(left, 1) and self.used):
            return False
        if amount:
            self._held[holder] = held
            self.used += amount
        return True

    def give_back(self, holder: Hashable, amount: int) -> None:
        if not amount:
            return
        left = self._held[holder] - amount
        if left:
            self._held[holder] = left
        else:
            del self._held[holder]
        self.used -= amount

    @contextmanager
    def held(self, holder: Hashable, what: str, amount: int = 1) -> Iterator[None]:
        """Takes an amount while the block runs. what: words for the error, "calls are open". Raises Overloaded."""
        if not self.take(holder, amount):
            raise Overloaded(f"{self.used} {what} already; try again later")
        try:
            yield
        finally:
            self.give_back(holder, amount)
