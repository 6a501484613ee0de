"""Numbers of an answer computed by an expression in CEL, such as `1 - value` or `tasks.like > 0.5 ? 1 : 0`.

Names: value, similarity and rank of a result, and its scores by task, `tasks.like`. Arithmetic as in value formulas:
float64 within the range of float32, x / 0 is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from meshfold.compat.mapped.conversions import Make, scores_of
from meshfold.compat.mapped.mapping_file import Part
from meshfold.kernels.value.formula import formula_values
from meshfold.model.errors import MeshfoldError
from meshfold.model.schema import Schema, nearest
from meshfold.model.value.config import ValueConfig
from meshfold.model.value.formula import Call, Chain, Conditional, Has, Name, Node, Unary
from meshfold.model.value.program import compile_formulas
from meshfold.model.value.text import parse_formula

_OWN = ("value", "rank")
_SIMILARITY = "similarity"
_FORMULA = "cel"


def transform(part: Part) -> Make:
    """Compiles an expression: from a reply to [K] float32. Raises InvalidMapping."""
    text = part.text()
    names = list(_names(parse_formula(text, part.error).root))
    for name in names:
        if name.space in ("fields", "weights", "features"):
            raise part.error(
                f"{name.space}.{name.name} is not known here; use value, similarity, rank or tasks.NAME"
            )
        if name.space == "" and name.name not in (*_OWN, _SIMILARITY):
            known = (*_OWN, _SIMILARITY)
            raise part.error(
                f"no name {name.name!r}{nearest(name.name, known)}; known: {', '.join(known)}, tasks.NAME"
            )
        if name.space == "tasks" and name.name in (*_OWN, _SIMILARITY):
            raise part.error(f"a task {name.name!r} has the name of something else; leave it out")
    tasks = tuple(dict.fromkeys(name.name for name in names if name.space == "tasks"))
    try:
        # The names are passed as tasks of a surface, to use the formulas' compiler and arithmetic.
        formulas = compile_formulas(
            Schema("mapping", (), (*_OWN, *tasks)), ValueConfig(formulas={_FORMULA: text}, default=_FORMULA)
        )
    except MeshfoldError as error:
        raise part.error(str(error).removeprefix(f"formulas.{_FORMULA}: ")) from None
    query = formulas.prepare(_FORMULA, {}, {})

    def make(reply: Any) -> Any:
        candidates = reply.candidates
        count = len(candidates.item_ids)
        if not count:
            return np.empty(0, np.float32)
        first = 1 + (reply.query.page.first if reply.query.page is not None else 0)
        rows = [candidates.values, np.arange(first, first + count)]
        rows += [scores_of(candidates, task) for task in tasks]
        operands = np.stack([np.asarray(row, np.float64) for row in (*rows, candidates.similarities)])
        steps, constants = torch.from_numpy(query.steps[None]), torch.from_numpy(query.constants[None])
        return formula_values(steps, constants, torch.from_numpy(operands[None]))[0].numpy()

    return make


def _names(node: Node) -> Iterator[Name]:
    match node:
        case Name():
            yield node
        case Has(name):
            yield name
        case Unary(_, operand):
            yield from _names(operand)
        case Chain(first, rest):
            yield from _names(first)
            for _, operand in rest:
                yield from _names(operand)
        case Call(_, arguments):
            for argument in arguments:
                yield from _names(argument)
        case Conditional(condition, then, otherwise):
            for each in (condition, then, otherwise):
                yield from _names(each)
