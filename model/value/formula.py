"""The syntax tree of a value formula. `at` is a node's place in the text, for messages; it does not affect equality."""

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
    """A name. space: "tasks", "fields", "weights" or "features"; "" for a name without a dot."""

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
    """A negation. operator: "-" or "!"."""

    operator: str
    operand: Node
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Chain:
    """Operands joined by operators of one precedence, from the left: + and -, * and /, &&, ||, or one comparison.

    rest: each operator with its right operand.
    """

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

# The number of arguments of each function.
FUNCTIONS = {"min": 2, "max": 2, "exp": 1, "log": 1, "sqrt": 1}
SPACES = ("tasks", "fields", "weights", "features")
