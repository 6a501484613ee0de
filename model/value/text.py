"""The text form of value formulas: a subset of CEL (https://github.com/google/cel-spec) over numbers.

    year >= 1990 ? weights.like * like + 0.3 * watch : 0.2 * watch

    like                  the score of the task `like`, or an item's number or integer in the field `like`
    tasks.like            the same, where a task and a field share a name
    fields.year
    similarity            the largest similarity over the tasks
    weights.like          a named weight; a request may set it, within its bounds
    features.hour         a feature of the request: one number
    has(year)             whether the item has the field; has(features.hour) whether the request has it
    1, 0x10, 1.5e-3       numbers; 7 / 2 is 3.5, for all numbers are float64 (integers beyond 2**53 round)
    a + b, a - b, a * b, a / b, -a, min(a, b), max(a, b), exp(a), log(a), sqrt(a)
    a == b, a != b, a < b, a <= b, a > b, a >= b, a && b, a || b, !a, true, false
    c ? a : b             both sides are computed, one is the result

A formula gives a number; numbers and truth values do not mix. Missing fields and features are 0. x / 0, log(x) for
x <= 0 and sqrt(x) for x < 0 are 0. Numbers beyond float32 become its largest number. `// ...` is a comment. Other
constructs of CEL are errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshfold.kernels.value.formula import LARGEST
from meshfold.model.cel.language import Language
from meshfold.model.cel.source import Source
from meshfold.model.cel.syntax import arguments, child, kind_of, refusal, start_of, tree_of, unwrapped
from meshfold.model.errors import MeshfoldError
from meshfold.model.value.formula import (
    FUNCTIONS,
    SPACES,
    Call,
    Chain,
    Conditional,
    Has,
    Name,
    Node,
    Number,
    Truth,
    Unary,
)

if TYPE_CHECKING:
    from meshfold.model.cel.syntax import Node as Tree

FORMULAS = Language(
    noun="formula",
    max_characters=4096,
    shorten="split it into formulas of their own",
    max_brackets=32,
    max_depth=32,
    offer=(
        "a formula has + - * / == != < <= > >= && || ! ? : has(field)"
        f" {' '.join(f'{name}()' for name in FUNCTIONS)} true and false"
    ),
    lacks={
        "STRING_LIT": "a string",
        "relation_in": "the operator in",
        "multiplication_mod": "the remainder %",
        "list_lit": "a list",
    },
)
MAX_NODES = 256

_OPERATORS = {
    "addition_add": "+",
    "addition_sub": "-",
    "multiplication_mul": "*",
    "multiplication_div": "/",
    "relation_eq": "==",
    "relation_ne": "!=",
    "relation_lt": "<",
    "relation_le": "<=",
    "relation_gt": ">",
    "relation_ge": ">=",
    "conditionaland": "&&",
    "conditionalor": "||",
}
_CHAINS = {"addition", "multiplication", "relation", "conditionaland", "conditionalor"}


@dataclass(frozen=True)
class Formula:
    source: Source
    root: Node


def parse_formula(text: str, fault: Callable[[str], MeshfoldError]) -> Formula:
    """Parses a formula. Names and types are checked later, by compile_formulas.

    Raises fault(message), which names the line and column, both from 1. Limits: those of FORMULAS, and MAX_NODES
    operands and operators.
    """
    source = Source.of(text, FORMULAS, fault)
    return Formula(source, _Reader(source).read(tree_of(source), 1))


class _Reader:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._nodes = 0

    def read(self, tree: Tree, depth: int) -> Node:
        tree = unwrapped(tree)
        at = start_of(tree)
        self._count(at)
        if depth > FORMULAS.max_depth:
            raise self._source.error(at, f"formulas must be nested at most {FORMULAS.max_depth} deep")
        kind = kind_of(tree)
        if kind in _CHAINS:
            return self._chain(tree, depth)
        match kind:
            case "expr":
                condition, then, otherwise = (self.read(child(tree, i), depth + 1) for i in range(3))
                return Conditional(condition, then, otherwise, at)
            case "unary_not" | "unary_neg":
                operator = "!" if kind == "unary_not" else "-"
                return Unary(operator, self.read(child(tree, 1), depth + 1), at)
            case "ident" | "member_dot":
                return self._name(tree)
            case "ident_arg":
                return self._call(tree, depth)
            case "INT_LIT" | "FLOAT_LIT":
                return self._number(tree, kind == "INT_LIT")
            case "STRING_LIT" if isinstance(truth := self._source.literals[at], bool):
                return Truth(truth, at)
        raise refusal(self._source, tree, "a number, a name or a truth value")

    def _count(self, at: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._source.error(at, f"a formula has at most {MAX_NODES} operands and operators")

    def _chain(self, tree: Tree, depth: int) -> Chain:
        """The node of a chain. The parser's tree nests one level for each operator; the chain is one flat node."""
        level, at = tree.data, start_of(tree)
        rest: list[tuple[str, Tree]] = []
        while tree.data == level:
            left, right = child(tree, 0), child(tree, 1)
            operator = str(level)
            if operator not in _OPERATORS:
                operator = str(left.data)
                if operator not in _OPERATORS:
                    what = FORMULAS.unsupported(operator)
                    raise self._source.error(left.meta.end_pos - (2 if "in" in operator else 1), str(what))
                left = child(left, 0)
            rest.append((_OPERATORS[operator], right))
            tree = unwrapped(left)
            if level == "relation":
                break
        first = self.read(tree, depth + 1)
        operands: list[tuple[str, Node]] = []
        for operator, right in reversed(rest):
            if operands:
                self._count(start_of(right))
            operands.append((operator, self.read(right, depth + 1)))
        return Chain(first, tuple(operands), at)

    def _name(self, tree: Tree) -> Name:
        at = start_of(tree)
        if tree.data == "ident":
            return Name(str(tree.children[0]), "", at)
        space = unwrapped(child(tree, 0))
        if space.data != "ident" or space.children[0] not in SPACES:
            known = ", ".join(f"{each}." for each in SPACES)
            raise self._source.error(at, f"names begin with {known} or have no dot")
        return Name(str(tree.children[1]), str(space.children[0]), at)

    def _call(self, tree: Tree, depth: int) -> Node:
        at, function, given = start_of(tree), str(tree.children[0]), arguments(tree)
        if function == "has":
            operand = unwrapped(given[0]) if len(given) == 1 else None
            if operand is None or operand.data not in ("ident", "member_dot"):
                raise self._source.error(at, "has takes one name, as in has(year) or has(features.hour)")
            return Has(self._name(operand), at)
        if function not in FUNCTIONS:
            raise self._source.error(at, f"the function {function} is not supported; {FORMULAS.offer}")
        if len(given) != FUNCTIONS[function]:
            expected = "one number" if FUNCTIONS[function] == 1 else "two numbers"
            raise self._source.error(at, f"{function} takes {expected}, got {len(given)}")
        return Call(function, tuple(self.read(each, depth + 1) for each in given), at)

    def _number(self, tree: Tree, whole: bool) -> Number:
        at, digits = start_of(tree), str(tree.children[0])
        if not whole:
            number = float(digits)
        elif len(digits) > 64:  # From 4,301 digits on, int() would raise ValueError.
            number = math.inf
        else:
            integer = int(digits, 16 if "x" in digits else 10)
            number = float(integer)
            if number != integer:
                raise self._source.error(at, f"a number is a float64, not {integer}; write {number!r}")
        if abs(number) > LARGEST:
            raise self._source.error(at, f"a number must lie within +-{LARGEST!r}, the range of float32")
        return Number(number, at)
