"""Towers and OverArch as programs of the shapes that serving runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from meshfold.model.data.catalog import Catalog
from meshfold.model.errors import InvalidData
from meshfold.model.inputs import HISTORY, PAD
from meshfold.model.item_tower import ItemInputs
from meshfold.model.program import Program, export_program, load_program
from meshfold.model.ranking import TILE
from meshfold.model.schema import InputKind, Schema
from meshfold.model.snapshot import ITEM_TOWER, OVER_ARCH, PROGRAMS, USER_TOWER


def user_inputs(schema: Schema, dimension: int) -> dict[str, Tensor]:
    """What a user tower gets for a user of whom nothing is known."""
    inputs = {
        "history": torch.full((1, HISTORY), PAD),
        "history_vectors": torch.zeros(1, HISTORY, dimension),
        "in_history": torch.zeros(1, HISTORY, dtype=torch.bool),
    }
    for i in schema.inputs:
        floats = i.kind is InputKind.FLOATS
        inputs[i.name] = torch.zeros(1, i.length) if floats else torch.full((1, i.length), PAD)
    return inputs


def over_arch_inputs(schema: Schema, dimension: int) -> tuple[Tensor, Tensor, Tensor]:
    """User vectors [1, T, D], item vectors [1, TILE, D] and similarities [1, T, TILE], all zeros."""
    t = len(schema.tasks)
    return torch.zeros(1, t, dimension), torch.zeros(1, TILE, dimension), torch.zeros(1, t, TILE)


def export_user_tower(tower: nn.Module, schema: Schema, dimension: int) -> bytes:
    """Raises InvalidData where the tower cannot be exported or gives no [1, T, D]."""
    program = export_program(tower, (user_inputs(schema, dimension),))
    check_programs({USER_TOWER: program}, schema, dimension)
    return program


def export_over_arch(over_arch: nn.Module, schema: Schema, dimension: int) -> bytes:
    """Raises InvalidData where it cannot be exported or gives no [1, T, TILE]."""
    program = export_program(over_arch, over_arch_inputs(schema, dimension))
    check_programs({OVER_ARCH: program}, schema, dimension)
    return program


def export_item_tower(tower: nn.Module, catalog: Catalog) -> bytes:
    """Raises InvalidData where the tower cannot be exported."""
    _, inputs = next(ItemInputs(catalog).batches())
    return export_program(tower, (inputs,))


def read_programs(folder: Path) -> dict[str, bytes]:
    """The programs of a model folder, by their names in a snapshot."""
    return {name: (folder / name).read_bytes() for name in PROGRAMS if (folder / name).is_file()}


def _strange(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Ids and hashes that no table has: callers may send any, and none may fail the batch that it is in."""
    strange = {name: torch.ones_like(t) for name, t in inputs.items()}
    for t in strange.values():
        if t.dtype == torch.int64:
            t[:, ::2], t[:, 1::2] = torch.iinfo(t.dtype).max, PAD + 1
    return strange


def check_programs(programs: Mapping[str, bytes], schema: Schema, dimension: int) -> None:
    """Raises InvalidData where one does not run for the schema's inputs; see check_program."""
    for name, data in programs.items():
        check_program(name, load_program(data, name), schema, dimension)


def check_program(name: str, program: Program, schema: Schema, dimension: int) -> None:
    """Runs a user tower or an OverArch twice, and a user tower for ids that nothing has. Raises InvalidData where it
    fails, gives another shape than serving needs, or other values the second time."""
    t = len(schema.tasks)
    if name == ITEM_TOWER:
        return
    example: tuple[object, ...]
    if name == USER_TOWER:
        example, wanted = (user_inputs(schema, dimension),), (1, t, dimension)
    else:
        example, wanted = over_arch_inputs(schema, dimension), (1, t, TILE)
    try:
        with torch.inference_mode():
            out, again = program(*example), program(*example)
            if name == USER_TOWER:
                program(_strange(user_inputs(schema, dimension)))
    except Exception as error:
        raise InvalidData(
            f"{name} cannot be run with the inputs of surface {schema.surface}, T = {t}, D = {dimension}:"
            f" {str(error).partition(chr(10))[0]}"
        ) from error
    came = (tuple(out.shape), out.dtype) if isinstance(out, Tensor) else (type(out).__name__, None)
    if came != (wanted, torch.float32):
        raise InvalidData(f"{name} gives {came[0]} {came[1]}; expected {list(wanted)} float32")
    if not torch.equal(out.nan_to_num(), again.nan_to_num()):
        raise InvalidData(f"{name} gives other values each time; drop what is random or kept between runs")
