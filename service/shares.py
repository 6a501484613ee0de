"""A budget that many share, of which one greedy holder cannot take everything."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from meshfold.model.errors import Overloaded


class Shares:
    """A holder may use at most as much as is still free.

    One holder alone gets half of the budget, n greedy ones n / (n + 1) of it, so that something is always left for the
    next. The rule is that of dynamic thresholds in switches with shared memory (Choudhury and Hahne, 1998). Used from
    one thread.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._held: dict[Hashable, int] = {}

    def take(self, holder: Hashable, amount: int) -> bool:
        """Whether the amount was there for this holder; it must then be given back."""
        held = self._held.get(holder, 0) + amount
        left = self.budget - self.used - amount
        # An unused budget admits one amount of any size that fits. The last unit goes only to a holder that has none.
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
        """Holds an amount while the block runs. what: is held, in words. Raises Overloaded where there is no room."""
        if not self.take(holder, amount):
            raise Overloaded(f"{self.used} {what} already; try again later")
        try:
            yield
        finally:
            self.give_back(holder, amount)
