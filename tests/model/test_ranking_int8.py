"""An OverArch in integers: the same scores from codes and from vectors, at every level, in any company."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from meshfold.kernels.layers.layers import LAYERS
from meshfold.kernels.layers.layers_int8 import LAYERS_INT8
from meshfold.kernels.layers.weights_int8 import WEIGHTS_INT8
from meshfold.kernels.native import library
from meshfold.kernels.vectors.items import item_vectors
from meshfold.kernels.vectors.quantize import FINE_MAX, quantize
from meshfold.model.config import Precision
from meshfold.model.exports import export_over_arch
from meshfold.model.program import Program, load_program
from meshfold.model.ranking import TILE, ProgramRanking
from meshfold.model.schema import Schema
from meshfold.model.train.config import OverArchKind
from meshfold.model.train.over_arch import new_over_arch

T, D, N = 2, 32, 5000
SCHEMA = Schema("shop", (), ("like", "watch"))
STORED = quantize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)) / math.sqrt(D))


class Listwise(nn.Module):
    listwise = 70

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(D, 40), nn.Linear(40, T)

    def forward(self, users: Tensor, items: Tensor, similarities: Tensor, present: Tensor) -> Tensor:
        scores: Tensor = self.last(torch.relu(self.first(items))).transpose(1, 2) + similarities
        return scores + users.mean(2, keepdim=True)


def mlp() -> nn.Module:
    module = new_over_arch(OverArchKind.MLP, T, D, (64, 32), 0).eval()
    # Training begins at weights of zeros.
    with torch.no_grad():
        module.get_parameter("last.weight").normal_(generator=torch.Generator().manual_seed(1))
    return module


def mol() -> nn.Module:
    module = new_over_arch(OverArchKind.MOL, T, D, (64, 32), 0).eval()
    with torch.no_grad():
        module.get_parameter("gain").fill_(2.0)
    return module


MODULES = {"mlp": mlp, "mol": mol, "listwise": Listwise}


def program(name: str) -> Program:
    return load_program(export_over_arch(MODULES[name](), SCHEMA, D), name)


def vectors_at(positions: Tensor) -> Tensor:
    return item_vectors(STORED, positions)


def codes_at(positions: Tensor) -> tuple[Tensor, Tensor]:
    at = positions.clamp(min=0)
    return STORED.codes[at], STORED.scales[at] * FINE_MAX


def asked(b: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(b * 10_000 + k)
    users = torch.randn(b, T, D, generator=generator) / math.sqrt(D)
    positions = torch.stack([torch.randperm(N, generator=generator)[:k] for _ in range(b)])
    return users, positions, users @ vectors_at(positions).transpose(1, 2)


def targets(run: Program) -> list[object]:
    return [node.target for node in run._exported.graph.nodes]


def test_linear_layers_that_follow_each_other_are_one_operation_whose_users_weights_are_coded_once() -> None:
    ranking = ProgramRanking(program("mlp"), Precision.INT8)
    of_user, of_items = targets(ranking._of_user), targets(ranking._of_items)
    # Of the weights that follow from the user, and of two layers of the program's own.
    assert of_user.count(WEIGHTS_INT8) == 3
    assert (of_items.count(LAYERS_INT8), of_items.count(LAYERS)) == (1, 0)
    assert WEIGHTS_INT8 not in of_items


@pytest.mark.parametrize("name", MODULES)
def test_scores_are_about_those_in_float32(name: str) -> None:
    given = asked(2, 70)
    exact = ProgramRanking(program(name))(*given, vectors_at)
    coded = ProgramRanking(program(name), Precision.INT8)(*given, vectors_at, codes_at)
    assert not torch.equal(exact, coded)
    assert (exact - coded).std() < 0.02 * exact.std()


@pytest.mark.parametrize("name", MODULES)
def test_codes_and_vectors_of_items_give_the_same_bytes_at_every_level(name: str) -> None:
    given, run = asked(1, 70), program(name)
    ranking = ProgramRanking(run, Precision.INT8)
    wanted: Tensor | None = None
    for level in library.levels():
        with library.forced(level):
            of_codes, of_vectors = ranking(*given, vectors_at, codes_at), ranking(*given, vectors_at)
        assert torch.equal(of_codes, of_vectors)
        # Other steps of a program may round otherwise where there is no native kernel.
        if name == "mlp" and level != "reference":
            assert wanted is None or torch.equal(of_codes, wanted)
            wanted = of_codes


@pytest.mark.parametrize("name", ["mlp", "mol"])
def test_a_candidate_of_fewer_scores_what_it_scores_among_more(name: str) -> None:
    users, positions, similarities = asked(2, TILE + 20)
    ranking = ProgramRanking(program(name), Precision.INT8)
    many = ranking(users, positions, similarities, vectors_at, codes_at)
    for few in (1, 65, TILE):
        given = (users[:1], positions[:1, :few], similarities[:1, :, :few], vectors_at, codes_at)
        assert torch.equal(ranking(*given), many[:1, :, :few])


def test_narrow_items_keep_their_vectors() -> None:
    schema, d = Schema("shop", (), ("like",)), 8
    module = new_over_arch(OverArchKind.MLP, 1, d, (16, 16), 0).eval()
    run = load_program(export_over_arch(module, schema, d), "x")
    assert run.use_integers() == 3
    assert not run.halves()[1].take_codes(-2)
