from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from meshfold.model.data.catalog import Catalog
from meshfold.model.errors import InvalidData, SnapshotRefused
from meshfold.model.exports import (
    check_programs,
    export_item_tower,
    export_over_arch,
    export_user_tower,
    read_programs,
)
from meshfold.model.inputs import HISTORY, PAD
from meshfold.model.item_tower import ROWS
from meshfold.model.program import export_program, load_program
from meshfold.model.program_samples import over_arch_inputs, user_inputs
from meshfold.model.ranking import TILE
from meshfold.model.schema import Input, InputKind, Schema
from meshfold.model.snapshot import ITEM_TOWER, OVER_ARCH, USER_TOWER

CatalogOf = Callable[..., Catalog]
T, D = 2, 8
SCHEMA = Schema(
    "shop",
    (),
    ("like", "watch"),
    inputs=(
        Input("country", InputKind.STRINGS, 2),
        Input("query", InputKind.TEXT, 5),
        Input("ages", InputKind.INTS, 3),
        Input("clock", InputKind.FLOATS, 4),
    ),
)


class Tower(nn.Module):
    """Reads every declared input, each of the shape that the schema says."""

    def __init__(self, shape: tuple[int, ...] = (1, T, D), dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self._shape, self._dtype = shape, dtype

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        wanted: dict[str, tuple[int, ...]] = {i.name: (1, i.length) for i in SCHEMA.inputs}
        wanted |= {"history": (1, HISTORY), "history_vectors": (1, HISTORY, D), "in_history": (1, HISTORY)}
        assert {name: tuple(t.shape) for name, t in inputs.items()} == wanted
        total = sum((t.double().sum() for t in inputs.values()), torch.zeros(()).double())
        return total.to(self._dtype).expand(self._shape).clone()


class Scores(nn.Module):
    def __init__(self, shape: tuple[int, ...] = (1, T, TILE), dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self._shape, self._dtype = shape, dtype

    def forward(self, users: Tensor, items: Tensor, similarities: Tensor) -> Tensor:
        assert tuple(map(len, (users[0], items[0], similarities[0]))) == (T, TILE, T)
        scores = similarities + items.sum(2).unsqueeze(1) + users.sum()
        if self._shape == scores.shape:
            return scores.to(self._dtype)
        return scores.sum().to(self._dtype).expand(self._shape).clone()


class Tuple(nn.Module):
    def forward(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        return torch.zeros(1), torch.ones(1)


def test_declared_inputs_stand_beside_the_history() -> None:
    inputs = user_inputs(SCHEMA, D)
    told = {name: (tuple(t.shape), t.dtype, sorted(set(t.flatten().tolist()))) for name, t in inputs.items()}
    assert told == {
        "history": ((1, HISTORY), torch.int64, [PAD]),
        "history_vectors": ((1, HISTORY, D), torch.float32, [0.0]),
        "in_history": ((1, HISTORY), torch.bool, [False]),
        "country": ((1, 2), torch.int64, [PAD]),
        "query": ((1, 5), torch.int64, [PAD]),
        "ages": ((1, 3), torch.int64, [PAD]),
        "clock": ((1, 4), torch.float32, [0.0]),
    }


def test_modules_that_fit_become_programs() -> None:
    tower = load_program(export_user_tower(Tower(), SCHEMA, D), "x")
    inputs = user_inputs(SCHEMA, D)
    assert torch.equal(tower(inputs), Tower()(inputs))
    ranking = load_program(export_over_arch(Scores(), SCHEMA, D), "x")
    given = tuple(torch.ones_like(t) for t in over_arch_inputs(SCHEMA, D))
    assert torch.equal(ranking(*given), Scores()(*given))


@pytest.mark.parametrize(
    ("module", "came"),
    [
        (Tower((1, T, D + 1)), r"gives \(1, 2, 9\) torch.float32"),
        (Tower((T, D)), r"gives \(2, 8\) torch.float32"),
        (Tower((2, T, D)), r"gives \(2, 2, 8\) torch.float32"),
        (Tower((1, T, D), torch.float64), r"gives \(1, 2, 8\) torch.float64"),
        (Tower((1, T, D), torch.float16), r"gives \(1, 2, 8\) torch.float16"),
        (Tuple(), "gives a tuple of 2"),
    ],
)
def test_a_user_tower_that_gives_anything_else_is_refused(module: nn.Module, came: str) -> None:
    with pytest.raises(InvalidData, match=rf"user_tower\.pt2 {came}; expected .*\[1, 2, 8\] float32"):
        export_user_tower(module, SCHEMA, D)


@pytest.mark.parametrize(
    ("module", "came"),
    [
        (Scores((1, TILE, T)), r"gives \(1, 2048, 2\) torch.float32"),
        (Scores((1, 1, TILE)), r"gives \(1, 1, 2048\) torch.float32"),
        (Scores((1, T, TILE), torch.bfloat16), r"gives \(1, 2, 2048\) torch.bfloat16"),
        (Tuple(), "gives a tuple of 2"),
    ],
)
def test_an_over_arch_that_gives_anything_else_is_refused(module: nn.Module, came: str) -> None:
    with pytest.raises(InvalidData, match=rf"over_arch\.pt2 {came}; expected .*\[1, 2, 2048\] float32"):
        export_over_arch(module, SCHEMA, D)


def test_a_module_that_reads_what_is_not_declared_is_refused() -> None:
    class Other(nn.Module):
        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            return inputs["device"].float()

    with pytest.raises(InvalidData, match=r"Other cannot be exported: .*device"):
        export_user_tower(Other(), SCHEMA, D)


class Table(nn.Module):
    def __init__(self, wraps: bool) -> None:
        super().__init__()
        self.table, self._wraps = nn.Embedding(10, T * D), wraps

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        rows = inputs["history"].clamp(min=0)
        rows = rows % 10 if self._wraps else rows
        out: Tensor = self.table(rows).sum(1)
        return out.view(-1, T, D)


def test_a_tower_that_fails_for_ids_it_has_not_seen_is_refused() -> None:
    assert export_user_tower(Table(wraps=True), SCHEMA, D)
    with pytest.raises(InvalidData, match=r"user_tower\.pt2 cannot be run .*index out of range"):
        export_user_tower(Table(wraps=False), SCHEMA, D)


def test_a_tower_that_gives_nan_is_taken() -> None:
    class Undefined(nn.Module):
        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            return torch.full((1, T, D), torch.nan)

    assert export_user_tower(Undefined(), SCHEMA, D)


def test_programs_of_another_surface_are_refused() -> None:
    """As where a model folder was trained for another schema."""
    programs = {
        USER_TOWER: export_user_tower(Tower(), SCHEMA, D),
        OVER_ARCH: export_over_arch(Scores(), SCHEMA, D),
    }
    check_programs(programs, SCHEMA, D)
    others = [
        (Schema("shop", (), ("like",), inputs=SCHEMA.inputs), D),
        (Schema("shop", (), ("like", "watch"), inputs=SCHEMA.inputs[:3]), D),
        (Schema("shop", (), ("like", "watch", "buy"), inputs=SCHEMA.inputs), D),
        (SCHEMA, D + 1),
    ]
    for schema, dimension in others:
        with pytest.raises(InvalidData, match=r"user_tower\.pt2 (cannot be run with the inputs of|gives)"):
            check_programs(programs, schema, dimension)
    with pytest.raises(SnapshotRefused, match=r"user_tower\.pt2: no program"):
        check_programs({USER_TOWER: b"x"}, SCHEMA, D)


def test_an_item_tower_is_exported_for_its_catalog(catalog_of: CatalogOf) -> None:
    class Items(nn.Module):
        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            return inputs["vector"] * 2 + inputs["price"]

    vectors = np.ones((3, D), np.float32)
    program = load_program(export_item_tower(Items(), catalog_of(vectors)), "x")
    with pytest.raises(InvalidData, match="Items cannot be exported: .*price"):
        export_item_tower(Items(), catalog_of(vectors, plain=True))
    assert isinstance(program, nn.Module)
    assert ROWS == 256


@pytest.mark.parametrize(
    ("gives", "came"),
    [
        (lambda x: (x, x), "a tuple of 2"),
        (lambda x: {"vectors": x}, "a dict of 1"),
        (lambda x: x.double(), r"\(256, 8\) torch\.float64"),
        (lambda x: x[:, 0], r"\(256,\) torch\.float32"),
        (lambda x: x[:5], r"\(5, 8\) torch\.float32"),
    ],
)
def test_an_item_tower_that_gives_anything_else_is_refused(
    gives: Callable[[Tensor], Any], came: str, catalog_of: CatalogOf
) -> None:
    class Items(nn.Module):
        def forward(self, inputs: dict[str, Tensor]) -> Any:
            return gives(inputs["vector"])

    with pytest.raises(InvalidData, match=rf"^Items gives {came}; expected \[256, D\] float32"):
        export_item_tower(Items(), catalog_of(np.ones((3, D), np.float32)))


def test_the_programs_of_a_folder_have_their_names(tmp_path: Path) -> None:
    assert read_programs(tmp_path) == {}
    data = export_program(nn.Identity(), (torch.zeros(1),))
    (tmp_path / USER_TOWER).write_bytes(data)
    (tmp_path / "other.pt2").write_bytes(data)
    (tmp_path / ITEM_TOWER).mkdir()
    assert read_programs(tmp_path) == {USER_TOWER: data}
