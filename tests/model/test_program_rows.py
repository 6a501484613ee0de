"""Programs that compute every row for itself, and such as only look like it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from meshfold.model.program import Program, export_program, load_program

T, M, D, H = 2, 24, 4, 8
torch.manual_seed(0)
FIRST, LAST = torch.randn(H, D + T), torch.randn(T, H)
Scores = Callable[[Tensor, Tensor, Tensor], Tensor]


class Made(nn.Module):
    def __init__(self, scores: Scores) -> None:
        super().__init__()
        self._scores = scores

    def forward(self, user: Tensor, items: Tensor, similarities: Tensor) -> Tensor:
        return self._scores(user, items, similarities)


def second_half(scores: Scores) -> Program:
    example = (torch.randn(1, T, D), torch.randn(1, M, D), torch.randn(1, T, M))
    return load_program(export_program(Made(scores), example), "x").halves()[1]


def beside(items: Tensor, similarities: Tensor) -> Tensor:
    return torch.cat([items, similarities.transpose(1, 2)], -1)


def deep(x: Tensor) -> Tensor:
    return linear(linear(x, FIRST).relu(), LAST)


@pytest.mark.parametrize(
    "scores",
    [
        lambda u, x, s: deep(beside(x, s)).transpose(1, 2),
        lambda u, x, s: deep(beside(x, s)).transpose(-1, -2).sigmoid() * 2 + s,
        lambda u, x, s: deep(beside(x, s)).transpose(1, 2) * u.mean(2, keepdim=True) - s,
        lambda u, x, s: linear(x * u.mean(1, keepdim=True), LAST[:, :D]).transpose(1, 2),
        lambda u, x, s: linear(beside(x, s), (u.mean() * FIRST)[:T]).transpose(1, 2),
    ],
)
def test_layers_and_elementwise_operators_keep_rows_apart(scores: Scores) -> None:
    user, items, similarities = torch.randn(1, T, D), torch.randn(1, 3 * M, D), torch.randn(1, T, 3 * M)
    program = second_half(scores)
    assert program.row_by_row((1, 2))
    first = load_program(
        export_program(Made(scores), (user, items[:, :M], similarities[:, :, :M])), "x"
    ).halves()[0]
    torch.testing.assert_close(program(*first(user), items, similarities), scores(user, items, similarities))


@pytest.mark.parametrize(
    "scores",
    [
        # Rows are mixed.
        lambda u, x, s: deep(beside(x, s)).transpose(1, 2).softmax(-1),
        lambda u, x, s: deep(beside(x, s)).transpose(1, 2) + s.amax(2, keepdim=True),
        lambda u, x, s: linear(s, torch.randn(M, M)),
        lambda u, x, s: deep(beside(x, s)).transpose(1, 2) + s.transpose(1, 2).reshape(1, T, M),
        # Their number is counted on.
        lambda u, x, s: deep(beside(x, s)).transpose(1, 2) + torch.arange(M),
        lambda u, x, s: s + u[:, :, :1].expand(1, T, M).contiguous(),
        lambda u, x, s: deep(beside(x, s)).view(1, T, M),
        # They are not where they should be.
        lambda u, x, s: deep(beside(x, s)),
        # No layers of our kernel's.
        lambda u, x, s: deep(beside(x, s)).double().float().transpose(1, 2),
        lambda u, x, s: (u @ x.transpose(1, 2)) + s,
        lambda u, x, s: linear(beside(x, s).double(), FIRST[:T].double()).float().transpose(1, 2),
        # Nothing of the rows is in it.
        lambda u, x, s: u.sum(2, keepdim=True),
    ],
)
def test_others_do_not(scores: Scores) -> None:
    assert not second_half(scores).row_by_row((1, 2))
