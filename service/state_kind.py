"""State that servers share: what is kept, and the interface of the places that keep it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from meshfold.model.errors import InvalidConfig, NotDurable

State = TypeVar("State")

# A change and the generation that it made, as the history keeps it.
Entry = tuple[int, Mapping[str, Any]]


class Unreachable(InvalidConfig):
    """The place that keeps a state does not answer now; it may later."""


class Unsure(NotDurable):
    """The place did not say whether a change was written. Reading it later tells."""


@dataclass(frozen=True)
class StateKind(Generic[State]):
    """noun: what a place holds, in messages: "modes". It also names the key in Redis. remedy: what to do with content
    that cannot be read.

    encode: to a JSON object, whose integer "generation" grows by one with each change. decode: raises ValueError,
    InvalidQuery. most_bytes: of that JSON. changes: the latest changes that a state carries, newest first, for the
    history.
    """

    noun: str
    remedy: str
    encode: Callable[[State], Any]
    decode: Callable[[Any], State]
    most_bytes: int
    changes: Callable[[State], Sequence[Entry]] = lambda _: ()

    @property
    def key(self) -> str:
        """The noun as a name of keys and files: "denied-items"."""
        return self.noun.replace(" ", "-")


class Shared(Protocol[State]):
    """One state that servers share. For one thread at a time, and never on the loop of callers: reads and writes may
    take about a second."""

    @property
    def name(self) -> str:
        """The place, for messages; without a password."""

    @property
    def last(self) -> State | None:
        """The latest state that was read or written here. In Redis: also by an earlier process on this machine."""

    @property
    def is_seen(self) -> bool:
        """Whether it was ever read or written here, if only that there is none. In Redis: also by an earlier process on
        this machine."""

    def read(self) -> State | None:
        """The state; None where none is kept. The same object as before where it has not changed.

        Raises InvalidConfig where it cannot be read, Unreachable where the place does not answer.
        """

    def change(self, change: Callable[[State | None], State]) -> State:
        """Writes what `change` makes of the state, durably; `change` may be called several times.

        Raises NotDurable where it cannot be written, Unsure where that is not known, InvalidConfig and Unreachable as
        read(), InvalidQuery where it is larger than a state may be, and what `change` raises.
        """

    def keep(self, state: State) -> bool:
        """Whether this machine knows a state after a restart, though the place does not have it yet. Where that still
        has the state before it then, it gets this one."""

    def history(self, count: int) -> Sequence[Mapping[str, Any]]:
        """The latest changes as StateKind.changes gave them, newest first, each with its "generation".

        Raises NotDurable where they cannot be read.
        """

    def close(self) -> None:
        """Closes connections. A later read opens them again."""
