"""The compiler from a formula's syntax tree to its program (kernels/value/formula.py)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from meshfold.kernels.value.formula import LARGEST, ValueOp
from meshfold.model.cel.source import Source
from meshfold.model.errors import InvalidData, MeshfoldError
from meshfold.model.schema import Schema, nearest
from meshfold.model.types import QUERY_VECTOR
from meshfold.model.value.config import SIMILARITY, WEIGHTED, ValueConfig, Weight
from meshfold.model.value.formula import (
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
from meshfold.model.value.formulas import Program, ValueFormulas
from meshfold.model.value.text import FORMULAS, Formula, parse_formula

_OPERATORS = {
    "+": ValueOp.ADD,
    "-": ValueOp.SUBTRACT,
    "*": ValueOp.MULTIPLY,
    "/": ValueOp.DIVIDE,
    "==": ValueOp.EQUAL,
    "!=": ValueOp.NOT_EQUAL,
    "<": ValueOp.LESS,
    "<=": ValueOp.LESS_EQUAL,
    ">": ValueOp.GREATER,
    ">=": ValueOp.GREATER_EQUAL,
    "&&": ValueOp.AND,
    "||": ValueOp.OR,
}
_FUNCTIONS = {
    "min": ValueOp.MINIMUM,
    "max": ValueOp.MAXIMUM,
    "exp": ValueOp.EXP,
    "log": ValueOp.LOG,
    "sqrt": ValueOp.SQRT,
}
_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
_NUMBER, _TRUTH = "a number", "a truth value"
_REMEDIES = {_NUMBER: "compare it, as in a > 0", _TRUTH: "make a number of it with ? 1 : 0"}


def compile_formulas(schema: Schema, config: ValueConfig, ranked: bool = False) -> ValueFormulas:
    """Compiles the surface's formulas and the built-in ones, for a snapshot.

    ranked: whether an OverArch computes task scores. For a surface without formulas the default is then the sum of task
    scores instead of similarity.

    Raises InvalidData that names formula, line and column of a part that does not fit the schema, or a weight that no
    formula uses.
    """
    # The built-in formula is a tree, so that a surface without formulas needs no parser.
    source = Source.of(SIMILARITY, FORMULAS, partial(_fault, SIMILARITY))
    formulas = {SIMILARITY: Formula(source, Name(SIMILARITY))} | {
        name: parse_formula(text, partial(_fault, name)) for name, text in config.formulas.items()
    }
    weights = dict(config.weights)
    if not config.formulas:
        if weights:
            raise InvalidData("there are [weights] but no [formulas] to name them; add one or drop them")
        weights = {task: Weight(1.0 if ranked else 0.0, -LARGEST, LARGEST) for task in schema.tasks}
        formulas[WEIGHTED] = Formula(source, _weighted(schema))
    fields: dict[str, int] = {}
    programs = {
        name: _Compiler(schema, weights, fields, formula).program() for name, formula in formulas.items()
    }
    for name in weights:
        if not any(name in program.weights for program in programs.values()):
            raise InvalidData(
                f"weights.{name} is named by no formula; write weights.{name} in one or drop it"
            )
    return ValueFormulas(
        surface=schema.surface,
        tasks=schema.tasks,
        fields=tuple(fields),
        weights=weights,
        programs=programs,
        default=WEIGHTED if ranked and not config.formulas else config.default,
        default_with_weights=config.default if config.formulas else WEIGHTED,
    )


def _fault(formula: str, message: str) -> InvalidData:
    return InvalidData(f"formulas.{formula}: {message}")


def _weighted(schema: Schema) -> Chain:
    """The tree of weights.a * tasks.a + weights.b * tasks.b + ... over all tasks."""
    products = [Chain(Name(task, "weights"), (("*", Name(task, "tasks")),)) for task in schema.tasks]
    return Chain(products[0], tuple(("+", product) for product in products[1:]))


class _Compiler:
    """Compiles one formula. fields: place of each field that the surface's formulas use; new fields are added."""

    def __init__(
        self, schema: Schema, weights: Mapping[str, Weight], fields: dict[str, int], formula: Formula
    ) -> None:
        self._schema = schema
        self._weights = weights
        self._fields = fields
        self._formula = formula
        self._numbers = [f.name for f in schema.filterable if f.kind.ordered]
        self._steps: list[tuple[int, int]] = []
        self._constants: list[float] = []
        self._weight_places: dict[str, int] = {}
        self._feature_places: dict[str, int] = {}

    def program(self) -> Program:
        self._emit(self._formula.root, _NUMBER)
        return Program(
            steps=tuple(self._steps),
            constants=tuple(self._constants),
            weights=self._weight_places,
            features=self._feature_places,
        )

    def _emit(self, node: Node, expected: str) -> None:
        """Appends the steps that push the node's value. expected: the node's kind, _NUMBER or _TRUTH."""
        match node:
            case Number(value):
                self._expect(_NUMBER, expected, node)
                self._push(ValueOp.CONSTANT, self._constant(value))
            case Truth(value):
                self._expect(_TRUTH, expected, node)
                self._push(ValueOp.CONSTANT, self._constant(float(value)))
            case Name():
                self._expect(_NUMBER, expected, node)
                self._push(*self._place(node))
            case Has(name):
                self._expect(_TRUTH, expected, node)
                self._push(*self._flag(name))
            case Unary(operator, operand):
                kind, op = (_TRUTH, ValueOp.NOT) if operator == "!" else (_NUMBER, ValueOp.NEGATE)
                self._expect(kind, expected, node)
                self._emit(operand, kind)
                self._push(op)
            case Chain(first, rest):
                # A chain of one operand is the built-in formula of one task.
                taken, given = _kinds(rest[0][0]) if rest else (expected, expected)
                self._expect(given, expected, node)
                self._emit(first, taken)
                for operator, operand in rest:
                    self._emit(operand, taken)
                    self._push(_OPERATORS[operator])
            case Call(function, arguments):
                self._expect(_NUMBER, expected, node)
                for argument in arguments:
                    self._emit(argument, _NUMBER)
                self._push(_FUNCTIONS[function])
            case Conditional(condition, then, otherwise):
                self._emit(condition, _TRUTH)
                self._emit(then, expected)
                self._emit(otherwise, expected)
                self._push(ValueOp.SELECT)

    def _push(self, op: ValueOp, place: int = 0) -> None:
        self._steps.append((int(op), place))

    def _constant(self, value: float) -> int:
        self._constants.append(value)
        return len(self._constants) - 1

    def _expect(self, kind: str, expected: str, node: Node) -> None:
        if kind != expected:
            compares = isinstance(node, Chain) and node.rest and node.rest[0][0] in _COMPARISONS
            chain = "comparisons do not chain (write 1 < a && a < 5), or " if compares else ""
            raise self._error(node, f"expected {expected}, got {kind}; {chain}{_REMEDIES[kind]}")

    def _error(self, node: Node, message: str) -> MeshfoldError:
        return self._formula.source.error(node.at, message)

    def _place(self, node: Name) -> tuple[ValueOp, int]:
        """The step that pushes a name's value."""
        name = node.name
        if node.space == "weights":
            if name not in self._weights:
                raise self._error(node, f"no weight {name!r}{nearest(name, self._weights)}")
            if name not in self._weight_places:
                # The default is rounded to float32, the type of weights in requests: sending it changes nothing.
                self._weight_places[name] = self._constant(float(np.float32(self._weights[name].default)))
            return ValueOp.CONSTANT, self._weight_places[name]
        if node.space == "features":
            return ValueOp.CONSTANT, self._feature(node)
        if node.space == "" and name == SIMILARITY:
            return ValueOp.OPERAND, len(self._schema.tasks)
        task = name in self._schema.tasks and node.space != "fields"
        if task and node.space == "" and name in self._numbers:
            raise self._error(node, f"names a task and a field; write tasks.{name} or fields.{name}")
        if task:
            return ValueOp.OPERAND, self._schema.tasks.index(name)
        known = {"tasks": self._schema.tasks, "fields": self._numbers}.get(
            node.space, {*self._schema.tasks, *self._numbers, SIMILARITY}
        )
        if name in known:
            return ValueOp.OPERAND, self._field(name)
        if name in self._schema and node.space != "tasks":
            kind = self._schema[name].kind
            raise self._error(node, f"the field holds {kind}, not one number{nearest(name, self._numbers)}")
        what = {"tasks": "task", "fields": "field of numbers"}.get(node.space, "task or field of numbers")
        raise self._error(node, f"no {what} {name!r}{nearest(name, known)}")

    def _flag(self, node: Name) -> tuple[ValueOp, int]:
        """The step that pushes whether the item has the field, or the request the feature."""
        if node.space == "features":
            return ValueOp.CONSTANT, self._feature(node) + 1
        op, place = self._place(node)
        if op is not ValueOp.OPERAND or place <= len(self._schema.tasks):
            raise self._error(node, "is never missing; has takes a field or a feature")
        return op, place + 1

    def _field(self, name: str) -> int:
        """The operand of a field. Fields follow the tasks and the similarity, each with its flag after it."""
        place = self._fields.setdefault(name, len(self._fields))
        return len(self._schema.tasks) + 1 + 2 * place

    def _feature(self, node: Name) -> int:
        """The place of a feature's constant; the next place is its flag's."""
        if node.name == QUERY_VECTOR:
            raise self._error(node, "a query vector is not one number; use similarity")
        if node.name not in self._feature_places:
            self._feature_places[node.name] = self._constant(0.0)
            self._constant(0.0)
        return self._feature_places[node.name]


def _kinds(operator: str) -> tuple[str, str]:
    """The kinds (of an operator's operands, of its result)."""
    if operator in ("&&", "||"):
        return _TRUTH, _TRUTH
    return (_NUMBER, _TRUTH) if operator in _COMPARISONS else (_NUMBER, _NUMBER)
