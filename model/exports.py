"""Export and checks of towers and OverArch as programs, with the shapes of serving."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from meshfold.model.data.catalog import Catalog
from meshfold.model.errors import InvalidData
from meshfold.model.item_tower import ROWS, ItemInputs
from meshfold.model.program import Program, export_program, load_program
from meshfold.model.program_difference import changing, check_same
from meshfold.model.program_independence import check_item_tower, check_over_arch, check_user_tower
from meshfold.model.program_samples import (
    over_arch_inputs,
    over_arch_samples,
    strange_user,
    user_inputs,
    user_samples,
)
from meshfold.model.ranking import MOST_LISTWISE, TILE, listwise_of
from meshfold.model.schema import Schema
from meshfold.model.snapshot import ITEM_TOWER, OVER_ARCH, PROGRAMS, USER_TOWER


def export_user_tower(tower: nn.Module, schema: Schema, dimension: int) -> bytes:
    """The program of a user tower.

    Raises InvalidData where the tower cannot be exported, its output is not [1, T, D], its values differ from its
    program's, or the other users of a batch change a user's vectors.
    """
    data = export_program(tower, (user_inputs(schema, dimension),))
    program = load_program(data, type(tower).__name__)
    check_program(USER_TOWER, program, schema, dimension)
    check_same(tower, program, [(sample,) for sample in user_samples(schema, dimension)])
    check_user_tower(tower, schema, dimension)
    return data


def export_over_arch(over_arch: nn.Module, schema: Schema, dimension: int) -> bytes:
    """The program of an OverArch.

    An attribute `listwise` of the module is the number of candidates that it takes as one list; such a module gets a
    fourth input, a mask of the candidates present. Raises InvalidData where the module cannot be exported, its output
    is not [1, T, M], its values differ from its program's, or a candidate's score depends on other candidates although
    the module is not listwise.
    """
    name, listwise = type(over_arch).__name__, _declared(over_arch)
    data = export_program(over_arch, over_arch_inputs(schema, dimension, listwise))
    program = load_program(data, name)
    check_program(OVER_ARCH, program, schema, dimension)
    check_same(over_arch, program, over_arch_samples(schema, dimension, listwise))
    check_over_arch(name, program, schema, dimension, listwise)
    return data


def export_item_tower(tower: nn.Module, catalog: Catalog) -> bytes:
    """The program of an item tower.

    Raises InvalidData where the tower cannot be exported, its output is not [ROWS, D], its values differ from its
    program's, or the other items of a batch change an item's vector.
    """
    batches = ItemInputs(catalog).batches()
    _, inputs = next(batches)
    _, others = next(batches, (0, inputs))
    data = export_program(tower, (inputs,))
    program = load_program(data, type(tower).__name__)
    with torch.inference_mode():
        out = program(inputs)
    if not isinstance(out, Tensor) or out.dim() != 2 or out.shape[0] != ROWS or out.dtype != torch.float32:
        raise InvalidData(f"{type(tower).__name__} gives {_words(out)}; expected [{ROWS}, D] float32")
    check_same(tower, program, [(inputs,), (others,)])
    check_item_tower(type(tower).__name__, program, inputs, others)
    return data


def _declared(over_arch: nn.Module) -> int:
    """The number of candidates that an OverArch declares to take as a list; 0 without a declaration."""
    listwise = getattr(over_arch, "listwise", 0)
    if isinstance(listwise, bool) or not isinstance(listwise, int) or not 0 <= listwise <= MOST_LISTWISE:
        raise InvalidData(
            f"{type(over_arch).__name__}.listwise is {listwise!r}; expected the number of candidates of a list, 1 to"
            f" {MOST_LISTWISE}"
        )
    return listwise


def read_programs(folder: Path) -> dict[str, bytes]:
    """The programs of a model folder, by their names in a snapshot."""
    return {name: (folder / name).read_bytes() for name in PROGRAMS if (folder / name).is_file()}


def check_programs(programs: Mapping[str, bytes], schema: Schema, dimension: int) -> None:
    """Checks the programs to publish.

    Raises InvalidData where one fails check_program, or a candidate's score depends on other candidates.
    """
    for name, data in programs.items():
        program = load_program(data, name)
        check_program(name, program, schema, dimension)
        if name == OVER_ARCH:
            check_over_arch(name, program, schema, dimension, listwise_of(program))


def check_program(name: str, program: Program, schema: Schema, dimension: int) -> None:
    """Runs a user tower or an OverArch twice, and a user tower also with unknown ids.

    Raises InvalidData where a run fails, the shape does not fit serving, or the second run gives other values.
    """
    t = len(schema.tasks)
    if name == ITEM_TOWER:
        return
    example: tuple[object, ...]
    if name == USER_TOWER:
        example, shape = (user_inputs(schema, dimension),), (1, t, dimension)
    else:
        listwise = listwise_of(program)
        if listwise > MOST_LISTWISE:
            raise InvalidData(
                f"{name} takes lists of {listwise} candidates; expected at most {MOST_LISTWISE}"
            )
        example, shape = over_arch_inputs(schema, dimension, listwise), (1, t, listwise or TILE)
    try:
        with torch.inference_mode():
            out, again = program(*example), program(*example)
            if name == USER_TOWER:
                program(strange_user(schema, dimension))
    except Exception as error:
        raise InvalidData(
            f"{name} cannot be run with the inputs of surface {schema.surface}, T = {t}, D = {dimension}:"
            f" {str(error).partition(chr(10))[0]}"
        ) from error
    if not isinstance(out, Tensor) or (tuple(out.shape), out.dtype) != (shape, torch.float32):
        raise InvalidData(f"{name} gives {_words(out)}; expected {list(shape)} float32")
    if not torch.equal(out.nan_to_num(), again.nan_to_num()):
        raise InvalidData(f"{name} gives other values each time: {changing(program)}")


def _words(out: object) -> str:
    """A description of an unexpected output, for errors."""
    if isinstance(out, Tensor):
        return f"{tuple(out.shape)} {out.dtype}"
    if isinstance(out, tuple | list | dict):
        return f"a {type(out).__name__} of {len(out)}"
    return type(out).__name__
