"""The compiled formulas of a snapshot, and the program of each request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from meshfold.kernels.value.formula import VALUE_STEP, ValueOp, arity
from meshfold.model.errors import InvalidData, InvalidQuery, UnknownName
from meshfold.model.schema import Schema, nearest
from meshfold.model.types import FeatureList, Float64s, Int64s
from meshfold.model.value.config import Weight


@dataclass(frozen=True)
class Program:
    """A compiled formula.

    steps: opcode and argument each. constants: numbers of the formula, defaults of weights, 0 for features. weights,
    features: places of each in constants. The place after a feature's holds 1 where the request has it, else 0.
    """

    steps: tuple[tuple[int, int], ...]
    constants: tuple[float, ...]
    weights: Mapping[str, int]
    features: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class ValueQuery:
    """The value program of one request. steps: [L, 2] int64. constants: [C] float64."""

    formula: str
    steps: Int64s
    constants: Float64s


@dataclass(frozen=True)
class ValueFormulas:
    """All formulas of a surface.

    fields: names of the fields that programs read, in ValueModel's order. default: the formula of a request that names
    none. default_with_weights: the same for a request with task weights.
    """

    surface: str
    tasks: tuple[str, ...]
    fields: tuple[str, ...]
    weights: Mapping[str, Weight]
    programs: Mapping[str, Program]
    default: str
    default_with_weights: str

    def prepare(
        self, formula: str, task_weights: Mapping[str, float], features: Mapping[str, FeatureList]
    ) -> ValueQuery:
        """The program of a request. formula: "" for the default.

        Raises UnknownName for an unknown formula, InvalidQuery for a weight that the formula does not use or that is
        out of bounds, and for a feature of the formula that is not one number.
        """
        name = formula or (self.default_with_weights if task_weights else self.default)
        program = self.programs.get(name)
        if program is None:
            raise UnknownName(
                f"surface {self.surface} has no value formula {name!r}{nearest(name, self.programs)}"
            )
        constants = np.array(program.constants, np.float64)
        self._check_weights(name, program, task_weights)
        for weight, value in task_weights.items():
            constants[program.weights[weight]] = self._weight(weight, value)
        for feature, place in program.features.items():
            number = _number(name, feature, features.get(feature))
            if number is not None:
                constants[place : place + 2] = number, 1.0
        return ValueQuery(name, np.array(program.steps, np.int64).reshape(-1, VALUE_STEP), constants)

    def _check_weights(self, name: str, program: Program, task_weights: Mapping[str, float]) -> None:
        if task_weights and not program.weights:
            others = sorted(other for other, its in self.programs.items() if its.weights)
            remedy = f"; {', '.join(map(repr, others))} does" if others else ""
            raise InvalidQuery("task_weights", f"formula {name!r} takes no weights{remedy}")
        for weight in task_weights:
            if weight not in program.weights:
                raise InvalidQuery(
                    f'task_weights["{weight}"]',
                    f"formula {name!r} has no such weight{nearest(weight, program.weights)}",
                )
        if not task_weights and name == self.default_with_weights != self.default:
            raise InvalidQuery("task_weights", f"formula {name!r} needs the weight of at least one task")

    def _weight(self, name: str, value: float) -> float:
        bounds = self.weights[name]
        # Weights of requests are float32: bounds include the float32 nearest to them.
        low = min(bounds.minimum, float(np.float32(bounds.minimum)))
        high = max(bounds.maximum, float(np.float32(bounds.maximum)))
        if not low <= value <= high:
            raise InvalidQuery(
                f'task_weights["{name}"]',
                f"must lie between {bounds.minimum:g} and {bounds.maximum:g}, got {value:g}",
            )
        return float(np.float32(value))

    def to_json(self) -> dict[str, Any]:
        return {
            "fields": list(self.fields),
            "weights": {name: asdict(weight) for name, weight in self.weights.items()},
            "programs": {name: asdict(program) for name, program in self.programs.items()},
            "default": self.default,
            "default_with_weights": self.default_with_weights,
        }

    @classmethod
    def from_json(cls, schema: Schema, raw: Mapping[str, Any]) -> Self:
        """The inverse of to_json.

        Raises KeyError, TypeError, ValueError or InvalidData where `raw` does not fit the schema.
        """
        numbers = [f.name for f in schema.filterable if f.kind.ordered]
        if not set(raw["fields"]) <= set(numbers):
            raise InvalidData(f"formulas read fields {raw['fields']}, of which the schema has {numbers}")
        formulas = cls(
            surface=schema.surface,
            tasks=schema.tasks,
            fields=tuple(raw["fields"]),
            weights={
                name: Weight(float(w["default"]), float(w["minimum"]), float(w["maximum"]))
                for name, w in raw["weights"].items()
            },
            programs={
                name: Program(
                    steps=tuple((int(op), int(place)) for op, place in program["steps"]),
                    constants=tuple(float(constant) for constant in program["constants"]),
                    weights={weight: int(place) for weight, place in program["weights"].items()},
                    features={feature: int(place) for feature, place in program["features"].items()},
                )
                for name, program in raw["programs"].items()
            },
            default=raw["default"],
            default_with_weights=raw["default_with_weights"],
        )
        for name, weight in formulas.weights.items():
            if not (math.isfinite(weight.default) and weight.minimum <= weight.maximum):
                raise InvalidData(f"weight {name!r} has bounds that no number lies between")
        if not {formulas.default, formulas.default_with_weights} <= set(formulas.programs):
            raise InvalidData(f"formulas lack their default {formulas.default!r}")
        for name, program in formulas.programs.items():
            formulas._check(name, program)
        return formulas

    def _check(self, name: str, program: Program) -> None:
        """Raises InvalidData unless the program can run: places exist, and the stack ends with one number."""
        if not all(map(math.isfinite, program.constants)):
            raise InvalidData(f"formula {name!r} has a constant that is no finite number")
        sizes = {
            ValueOp.CONSTANT: len(program.constants),
            ValueOp.OPERAND: len(self.tasks) + 1 + 2 * len(self.fields),
        }
        stack_size = 0
        for opcode, place in program.steps:
            op = ValueOp(opcode)
            # The argument of an operator is unused, and 0.
            if not 0 <= place < sizes.get(op, 1):
                raise InvalidData(f"formula {name!r} reads {op.name} {place} of {sizes.get(op, 0)}")
            if op is ValueOp.NOOP or stack_size < arity(op):
                raise InvalidData(f"formula {name!r} has a step {op.name} without its operands")
            stack_size += 1 - arity(op)
        places = [*program.weights.values(), *(p + i for p in program.features.values() for i in (0, 1))]
        if stack_size != 1 or not all(0 <= place < len(program.constants) for place in places):
            raise InvalidData(f"formula {name!r} is not a whole program")
        if not program.weights.keys() <= self.weights.keys():
            raise InvalidData(f"formula {name!r} has weights without bounds")


def padded(queries: Sequence[ValueQuery]) -> tuple[Int64s, Float64s]:
    """(steps: [B, L, 2] int64, constants: [B, C] float64) of one or more queries, padded with NOOP and 0."""
    steps = np.full((len(queries), max(len(q.steps) for q in queries), VALUE_STEP), ValueOp.NOOP, np.int64)
    constants = np.zeros((len(queries), max(len(q.constants) for q in queries)), np.float64)
    for i, query in enumerate(queries):
        steps[i, : len(query.steps)] = query.steps
        constants[i, : len(query.constants)] = query.constants
    return steps, constants


def _number(formula: str, name: str, feature: FeatureList | None) -> float | None:
    """The number of a feature; None where the request lacks it. Raises InvalidQuery for other values."""
    if feature is None or len(feature) == 0:
        return None
    path = f'features["{name}"]'
    if isinstance(feature, tuple):
        raise InvalidQuery(path, f"holds strings; formula {formula!r} reads one number")
    if len(feature) != 1:
        raise InvalidQuery(path, f"has {len(feature)} values; formula {formula!r} reads one number")
    number = float(feature[0])
    if not math.isfinite(number):
        raise InvalidQuery(path, f"must be a finite number for formula {formula!r}")
    return number
