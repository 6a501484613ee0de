"""The tree of a value formula. `at` is where a part begins in the text; it says nothing of what it means."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Number:
    value: float
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Truth:
    value: bool
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Name:
    """space: "tasks", "fields", "weights" or "features"; "" where the text gives the name alone."""

    name: str
    space: str = ""
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Has:
    """Whether an item has the field, or a request the feature."""

    name: Name
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Unary:
    """operator: "-" or "!"."""

    operator: str
    operand: Node
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Chain:
    """first, then each operator with its operand, from the left. The operators are of one precedence:
    + and -, * and /, &&, ||, or one comparison alone."""

    first: Node
    rest: tuple[tuple[str, Node], ...]
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Call:
    function: str
    arguments: tuple[Node, ...]
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Conditional:
    condition: Node
    then: Node
    otherwise: Node
    at: int = field(default=0, compare=False)


Node = Number | Truth | Name | Has | Unary | Chain | Call | Conditional

# Functions, and how many numbers each takes.
FUNCTIONS = {"min": 2, "max": 2, "exp": 1, "log": 1, "sqrt": 1}
SPACES = ("tasks", "fields", "weights", "features")
