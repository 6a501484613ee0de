"""The interface of state shared by servers: its encoding, and the places that keep it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from meshfold.model.errors import InvalidConfig, NotDurable

State = TypeVar("State")

# An entry of the history: a change, and the generation that it made.
Entry = tuple[int, Mapping[str, Any]]


class Unreachable(InvalidConfig):
    """The place of a state does not answer now, but may answer later."""


class Unsure(NotDurable):
    """It is unknown whether a change was written. A later read shows it."""


@dataclass(frozen=True)
class StateKind(Generic[State]):
    """One kind of state.

    noun: the content in words, such as "modes", for messages and for the key in Redis. remedy: advice for content that
    cannot be read. encode: to a JSON object whose integer "generation" grows by one with each change. decode: from that
    object; raises ValueError, InvalidQuery. most_bytes: most bytes of the JSON. changes: the latest changes in a state,
    newest first, for the history.
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
    """A state shared by servers. Not thread-safe, and not for the callers' event loop: reads and writes may take about
    a second."""

    @property
    def name(self) -> str:
        """The place, for messages; without a password."""

    @property
    def last(self) -> State | None:
        """The latest state read or written here; for Redis also by an earlier process on this machine."""

    @property
    def is_seen(self) -> bool:
        """Whether the place was ever read or written here, empty or not; for Redis also by an earlier process on this
        machine."""

    def read(self) -> State | None:
        """The state; None where the place is empty; the same object as before where it has not changed.

        Raises InvalidConfig where it cannot be read, Unreachable where the place does not answer.
        """

    def change(self, change: Callable[[State | None], State]) -> State:
        """Writes the result of `change` durably; may call `change` several times.

        Raises NotDurable where the state cannot be written, Unsure where that is unknown, InvalidConfig and Unreachable
        as read() does, InvalidQuery where the state is too large, and the errors of `change`.
        """

    def keep(self, state: State) -> bool:
        """Keeps a local copy of a state that the place does not have yet; returns whether it is durable. After a
        restart it is written to the place, if that still has the state before."""

    def history(self, count: int) -> Sequence[Mapping[str, Any]]:
        """The latest changes as StateKind.changes gave them, newest first, each with its "generation".

        Raises NotDurable where they cannot be read.
        """

    def close(self) -> None:
        """Closes connections. A later read opens them again."""
