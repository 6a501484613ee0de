"""Several observers of calls as one."""

from __future__ import annotations

from collections.abc import Sequence

from meshfold.service.front import Answered, Observer, Outcome


class Observers:
    """Passes every call to each of its observers, in their order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def answered(self, answered: Answered) -> None:
        for observer in self._observers:
            observer.answered(answered)

    def shadowed(self, answered: Answered, shadow: Outcome) -> None:
        for observer in self._observers:
            observer.shadowed(answered, shadow)
