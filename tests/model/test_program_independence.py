"""Modules whose answer for a row depends on the rows beside it are refused; those that work row by row are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from meshfold.model.data.catalog import Catalog
from meshfold.model.errors import InvalidData
from meshfold.model.exports import check_programs, export_item_tower, export_over_arch, export_user_tower
from meshfold.model.program import export_program, load_program
from meshfold.model.program_samples import over_arch_inputs, over_arch_samples
from meshfold.model.ranking import ProgramRanking
from meshfold.model.schema import Schema
from meshfold.model.snapshot import OVER_ARCH

T, D = 2, 16
SCHEMA = Schema("shop", (), ("like", "watch"))
Scores = Callable[..., Tensor]
CatalogOf = Callable[..., Catalog]


class Rank(nn.Module):
    """scores: of the module, user vectors, item vectors, similarities and, where it is listwise, what is there."""

    def __init__(self, scores: Scores, listwise: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.norm = nn.Linear(D, T), nn.LayerNorm(D)
        self.attention = nn.MultiheadAttention(D, 4, batch_first=True)
        self.learnt, self.of_batch = nn.BatchNorm1d(D), nn.BatchNorm1d(D, track_running_stats=False)
        self.near = nn.Conv1d(D, D, 3, padding=1)
        self._scores = scores
        if listwise:
            self.listwise = listwise

    def forward(self, *given: Tensor) -> Tensor:
        return self._scores(self, *given)


def linear(m: Any, x: Tensor) -> Tensor:
    scores: Tensor = m.layer(x)
    return scores.transpose(1, 2)


def by_column(layer: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = layer(x.transpose(1, 2))
    return out.transpose(1, 2)


BY_THEMSELVES: dict[str, Scores] = {
    "a normalised candidate": lambda m, u, x, s: linear(m, m.norm(x)) + s,
    "statistics of training": lambda m, u, x, s: linear(m, by_column(m.learnt, x)) * torch.sigmoid(s),
    "attention to the user": lambda m, u, x, s: linear(m, m.attention(x, u, u, need_weights=False)[0]) + s,
    "a softmax over tasks": lambda m, u, x, s: (linear(m, functional.gelu(x)) + s).softmax(1),
    "halves": lambda m, u, x, s: functional.linear(x.bfloat16(), m.layer.weight.bfloat16()).float().mT + s,
}
IN_COMPANY: dict[str, tuple[Scores, str]] = {
    "mean": (lambda m, u, x, s: linear(m, x - x.mean(1, keepdim=True)) + s, "beside padding"),
    "a small mean": (lambda m, u, x, s: linear(m, x) + s + 0.01 * s.mean(2, keepdim=True), "beside others"),
    "softmax": (lambda m, u, x, s: (linear(m, x) + s).softmax(2), "beside padding"),
    "attention": (
        lambda m, u, x, s: linear(m, m.attention(x, x, x, need_weights=False)[0]) + s,
        "beside padding",
    ),
    "places in an order": (
        lambda m, u, x, s: linear(m, x) + s.argsort(2).argsort(2) / 2048,
        "beside padding",
    ),
    "the best of them": (lambda m, u, x, s: s / s.amax(2, keepdim=True), "beside padding"),
    "statistics of a batch": (lambda m, u, x, s: linear(m, by_column(m.of_batch, x)) + s, "beside padding"),
    "neighbours": (lambda m, u, x, s: linear(m, by_column(m.near, x)) + s, "in another order"),
    "a place": (lambda m, u, x, s: s - torch.arange(s.shape[2]) * 1e-3, "in another order"),
    "a running sum": (lambda m, u, x, s: s.cumsum(2), "in another order"),
    "a threshold": (lambda m, u, x, s: s + (s >= s.topk(100, 2)[0][:, :, -1:]), "beside padding"),
}


@pytest.mark.parametrize("what", BY_THEMSELVES)
def test_a_candidate_by_itself_has_the_same_bytes_wherever_it_stands(what: str) -> None:
    over_arch = Rank(BY_THEMSELVES[what])
    ranking = ProgramRanking(load_program(export_over_arch(over_arch, SCHEMA, D), what))
    users, items, similarities = over_arch_samples(SCHEMA, D)[0]
    held = torch.cat([items[0], items[0].flip(0) * -8])

    def scores(positions: Tensor, beside: Tensor) -> Tensor:
        with torch.inference_mode():
            out: Tensor = ranking(users, positions, beside, lambda at: held[at.clamp(min=0)])
        return out

    positions, m = torch.arange(items.shape[1]).unsqueeze(0), items.shape[1]
    wanted, order = scores(positions, similarities), torch.randperm(m)
    assert torch.equal(scores(positions[:, order], similarities[:, :, order]), wanted[:, :, order])
    assert torch.equal(scores(positions[:, :777], similarities[:, :, :777]), wanted[:, :, :777])
    mixed = torch.cat([positions[:, :5] + m, positions[:, :700], positions + m], 1)
    beside = torch.cat([similarities[:, :, :5], similarities[:, :, :700], similarities], 2)
    assert torch.equal(scores(mixed, beside)[:, :, 5:705], wanted[:, :, :700])


@pytest.mark.parametrize("what", IN_COMPANY)
def test_a_candidate_whose_score_depends_on_others_is_refused(what: str) -> None:
    scores, how = IN_COMPANY[what]
    with pytest.raises(
        InvalidData,
        match=rf"^Rank gives a candidate another score {how} \(by up to .*or declare the module `listwise`",
    ):
        export_over_arch(Rank(scores), SCHEMA, D)


def test_a_published_program_is_asked_as_well() -> None:
    """As where a model folder brings one."""
    program = export_program(Rank(IN_COMPANY["mean"][0]), over_arch_inputs(SCHEMA, D))
    with pytest.raises(InvalidData, match=r"^over_arch\.pt2 gives a candidate another score"):
        check_programs({OVER_ARCH: program}, SCHEMA, D)


def mean_of(x: Tensor, present: Tensor) -> Tensor:
    known = present.unsqueeze(-1)
    return (x * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)


LISTS: dict[str, Scores] = {
    "mean": lambda m, u, x, s, there: linear(m, x - mean_of(x, there)) + s,
    "softmax": lambda m, u, x, s, there: (linear(m, x) + s).masked_fill(~there.unsqueeze(1), -1e9).softmax(2),
    "ranks of what is computed": lambda m, u, x, s, there: (
        (linear(m, x - mean_of(x, there)) + s).masked_fill(~there.unsqueeze(1), -1e9).argsort(2).argsort(2)
        / 300
    ),
    "order": lambda m, u, x, s, there: s.masked_fill(~there.unsqueeze(1), -1e9).argsort(2).argsort(2) / 300,
}
NO_LISTS: dict[str, tuple[Scores, str]] = {
    "mean": (
        lambda m, u, x, s, there: linear(m, x - x.mean(1, keepdim=True)) + s,
        "values of absent candidates",
    ),
    "softmax": (lambda m, u, x, s, there: (linear(m, x) + s).softmax(2), "values of absent candidates"),
    "a place": (lambda m, u, x, s, there: s - torch.arange(s.shape[2]) * 1e-3, "in another order"),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_listwise_over_arch_may_look_at_all_candidates(what: str) -> None:
    assert export_over_arch(Rank(LISTS[what], listwise=300), SCHEMA, D)


@pytest.mark.parametrize("what", NO_LISTS)
def test_a_listwise_over_arch_leaves_out_what_is_not_there(what: str) -> None:
    scores, how = NO_LISTS[what]
    with pytest.raises(
        InvalidData, match=rf"^Rank, which is listwise, gives a candidate another score .*{how}"
    ):
        export_over_arch(Rank(scores, listwise=300), SCHEMA, D)


@pytest.mark.parametrize("listwise", [True, -1, 1 << 20, 2.5, "all"])
def test_listwise_is_a_number_of_candidates(listwise: Any) -> None:
    over_arch = Rank(LISTS["mean"])
    over_arch.listwise = listwise
    with pytest.raises(
        InvalidData, match=r"^Rank\.listwise is .*; expected the number of candidates .* 1 to 16384"
    ):
        export_over_arch(over_arch, SCHEMA, D)


class Items(nn.Module):
    def __init__(self, vectors: Callable[[Any, dict[str, Tensor]], Tensor]) -> None:
        super().__init__()
        self.of_batch, self._vectors = nn.BatchNorm1d(8, track_running_stats=False), vectors

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self._vectors(self, inputs)


@pytest.mark.parametrize(
    "vectors",
    [
        lambda m, i: i["vector"] - i["vector"].mean(0),
        lambda m, i: functional.normalize(i["vector"], dim=0),
        lambda m, i: m.of_batch(i["vector"]),
        lambda m, i: i["vector"] * i["price"].softmax(0),
        lambda m, i: i["vector"] + torch.arange(256)[:, None] * 1e-2,
        lambda m, i: i["vector"].cumsum(0),
    ],
)
def test_an_item_whose_vector_depends_on_others_is_refused(
    vectors: Callable[[Any, dict[str, Tensor]], Tensor], catalog_of: CatalogOf
) -> None:
    catalog = catalog_of(np.random.default_rng(0).standard_normal((7, 8)).astype(np.float32))
    with pytest.raises(InvalidData, match=r"^Items gives an item another vector .*fixed statistics"):
        export_item_tower(Items(vectors), catalog)


class User(nn.Module):
    def __init__(self, vectors: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.of_batch = nn.Linear(D, T * D), nn.BatchNorm1d(128, track_running_stats=False)
        self._vectors = vectors

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.layer(self._vectors(self, inputs["history_vectors"]))
        return out.view(-1, T, D)


@pytest.mark.parametrize(
    "vectors",
    [
        lambda m, x: x.mean(1) - x.mean(1).mean(0),
        lambda m, x: m.of_batch(x).mean(1),
        lambda m, x: x.mean(1).softmax(0),
        lambda m, x: x.mean(1) / x.mean(1).norm(),
        lambda m, x: x.mean(1).cumsum(0),
    ],
)
def test_a_user_whose_vectors_depend_on_others_is_refused(vectors: Callable[[Any, Tensor], Tensor]) -> None:
    with pytest.raises(
        InvalidData, match=r"^User gives a user another vector beside other users .*one user at a time"
    ):
        export_user_tower(User(vectors), SCHEMA, D)


def test_a_tower_that_takes_one_user_alone_is_taken() -> None:
    """It may count on the shape that it is exported for."""
    assert export_user_tower(User(lambda m, x: x.view(128, D).mean(0)), SCHEMA, D)
