"""A program that gives other values than its module in eval mode is told so when it is exported."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from meshfold.model.errors import InvalidData
from meshfold.model.exports import export_user_tower
from meshfold.model.program_difference import difference
from meshfold.model.schema import Schema

D = 16
SCHEMA = Schema("shop", (), ("watch",))
COUNTED = itertools.count()


class Tower(nn.Module):
    """vectors: of the module and the mean of the history."""

    def __init__(self, vectors: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.drop, self.norm = nn.Linear(D, D), nn.Dropout(0.5), nn.BatchNorm1d(D)
        self._vectors = vectors

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self._vectors(self, self.layer(inputs["history_vectors"].mean(1))).unsqueeze(1)


class Training(Tower):
    """One that cannot be put into eval mode."""

    def train(self, mode: bool = True) -> Training:
        return super().train(True)


class Encoder(Tower):
    """torch's encoder in eval mode gives zeros where it is masked, which its export does not."""

    def __init__(self, nested: bool) -> None:
        super().__init__(lambda m, x: x)
        layer = nn.TransformerEncoderLayer(D, 2, D, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=nested)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        hidden = ~inputs["in_history"]
        hidden = torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, 1:]], 1)
        seen: Tensor = self.encoder(inputs["history_vectors"], src_key_padding_mask=hidden)
        return seen.mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("tower", "message"),
    [
        (
            Tower(lambda m, x: dropout(x, 0.5)),
            r"each time: its dropout stays on in eval mode \(dropout\); pass training=",
        ),
        (Training(lambda m, x: m.drop(x)), r"each time: its dropout stays on in eval mode"),
        (Tower(lambda m, x: x + torch.randn(D)), r"each time: it draws random numbers \(randn\)"),
        (
            Tower(lambda m, x: torch.bernoulli(x.sigmoid())),
            r"each time: it draws random numbers \(bernoulli\)",
        ),
        (Training(lambda m, x: m.norm(x)), r"cannot be exported: .*batch norm in training mode"),
        (
            Tower(lambda m, x: x * random.random()),
            r"gives other values each time that it is called in eval mode",
        ),
        (
            Tower(lambda m, x: x * next(COUNTED)),
            r"gives other values each time that it is called in eval mode",
        ),
        (
            Tower(lambda m, x: x if torch.compiler.is_exporting() else x * 2),
            r"gives other values in eval mode than its exported program \(by up to .*the export fixed a value",
        ),
        (Encoder(nested=True), r"than its exported program .*pass enable_nested_tensor=False"),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_differs_from_its_module_is_refused(tower: nn.Module, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        export_user_tower(tower, SCHEMA, D)


@pytest.mark.parametrize(
    "tower",
    [
        Tower(lambda m, x: m.norm(m.drop(x))),
        Tower(lambda m, x: dropout(x, 0.5, m.training)),
        Tower(lambda m, x: x.bfloat16().exp().float()),
        Encoder(nested=False),
    ],
)
def test_what_is_off_in_eval_mode_is_taken(tower: nn.Module) -> None:
    assert export_user_tower(tower.train(), SCHEMA, D)


def test_compiled_modules_are_run_as_they_are_written() -> None:
    def backend(*_: Any) -> Any:
        pytest.fail("something was compiled")

    compiled = torch.compile(nn.Sequential(nn.Linear(D, D), nn.ReLU()), backend=backend)
    assert export_user_tower(Tower(lambda m, x: compiled(x)), SCHEMA, D)


def test_rounding_is_no_difference() -> None:
    a = torch.tensor([1.0, 100.0, torch.nan])
    assert difference(a, a + torch.tensor([1e-3, 1e-3, 0.0]), is_half=False) == ""
    assert (
        difference(a, a + torch.tensor([0.0, 0.1, 0.0]), is_half=False)
        == "by up to 0.1 where values reach 100"
    )
    assert difference(a, a + torch.tensor([0.0, 0.1, 0.0]), is_half=True) == ""
    assert difference(a, a + torch.tensor([0.0, 0.1, 0.0]), is_half=False, outliers=0.4) == ""
    assert difference(a, torch.tensor([1.0, torch.inf, 0.0]), is_half=True)
