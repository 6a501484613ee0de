"""A surface's declaration of value formulas and their weights, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meshfold.kernels.value.formula import LARGEST
from meshfold.model.errors import InvalidData
from meshfold.model.schema import NAME, nearest

# The formula that every surface has: the largest similarity over the tasks.
SIMILARITY = "similarity"
# The formula of a surface that declares none: the sum of task weight times task score.
WEIGHTED = "weighted"

MAX_FORMULAS = 64
MAX_WEIGHTS = 64


@dataclass(frozen=True)
class Weight:
    """A number that formulas name as weights.<name>; a request may set it from minimum to maximum."""

    default: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class ValueConfig:
    """Declared formulas and weights.

    formulas: texts by name. default: the formula of requests that name none. weights: by name. Raises InvalidData for
    a bad name or bound; compile_formulas parses the texts.
    """

    formulas: Mapping[str, str] = field(default_factory=dict)
    default: str = SIMILARITY
    weights: Mapping[str, Weight] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_names("formulas", self.formulas, MAX_FORMULAS)
        _check_names("weights", self.weights, MAX_WEIGHTS)
        if SIMILARITY in self.formulas:
            raise InvalidData(f"formulas.{SIMILARITY} is built in; choose another name")
        known = {*self.formulas, SIMILARITY}
        if self.default not in known:
            raise InvalidData(
                f"formulas.default names no formula {self.default!r}{nearest(self.default, known)}"
            )
        for name, weight in self.weights.items():
            for part in ("default", "minimum", "maximum"):
                number = getattr(weight, part)
                if not math.isfinite(number) or abs(number) > LARGEST:
                    raise InvalidData(
                        f"weights.{name}: the {part} must lie within +-{LARGEST!r}, got {number}"
                    )
            if not weight.minimum <= weight.default <= weight.maximum:
                raise InvalidData(
                    f"weights.{name}: the default must lie between minimum and maximum,"
                    f" got {weight.minimum:g} <= {weight.default:g} <= {weight.maximum:g}"
                )


def value_config(raw_formulas: Mapping[str, Any], raw_weights: Mapping[str, Any]) -> ValueConfig:
    """The config from the tables [formulas] and [weights] of a schema file. Raises InvalidData that names the key.

    raw_formulas: texts by name; "default" names the default. raw_weights: tables of default, min and max.
    """
    for name, text in raw_formulas.items():
        if not isinstance(text, str):
            raise InvalidData(f"formulas.{name} must be a string, got {text!r}")
    return ValueConfig(
        formulas={name: text for name, text in raw_formulas.items() if name != "default"},
        default=raw_formulas.get("default", SIMILARITY),
        weights={name: _weight(name, raw) for name, raw in raw_weights.items()},
    )


def _weight(name: str, raw: Any) -> Weight:
    keys = ("default", "min", "max")
    if not isinstance(raw, dict):
        raise InvalidData(
            f"weights.{name} must be a table, as in {{ default = 0.5, min = 0.0, max = 1.0 }}, got {raw!r}"
        )
    for key in raw:
        if key not in keys:
            raise InvalidData(f"weights.{name}.{key} is no key of a weight{nearest(key, keys)}")
    for key in keys:
        if key not in raw:
            raise InvalidData(f"weights.{name}.{key} is missing; set it to a number")
        if type(raw[key]) not in (int, float) or not abs(raw[key]) <= LARGEST:
            raise InvalidData(f"weights.{name}.{key} must be a number within +-{LARGEST!r}, got {raw[key]!r}")
    return Weight(*(float(raw[key]) for key in keys))


def _check_names(table: str, names: Mapping[str, Any], most: int) -> None:
    if len(names) > most:
        raise InvalidData(f"{table} has {len(names)} entries, more than {most}; drop some")
    for name in names:
        if not NAME.match(name):
            raise InvalidData(
                f"{table}.{name}: a name is a letter or _ followed by at most 63 letters, digits or _"
            )
