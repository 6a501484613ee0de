import numpy as np
import pytest
import torch

from meshfold.model.data.interactions import Bools
from meshfold.model.train.metrics import DEPTHS
from meshfold.model.train.search import ranked


def _by_hand(scores: torch.Tensor, met: Bools) -> list[list[int]]:
    rows = []
    for line, left_out in zip(scores.tolist(), met.tolist(), strict=True):
        places = sorted((p for p in range(len(line)) if not left_out[p]), key=lambda p: (-line[p], p))
        wanted = min(max(DEPTHS), len(line))
        rows.append((places + [-1] * wanted)[:wanted])
    return rows


@pytest.mark.parametrize("items", [1, 7, 100, 101, 3000])
@pytest.mark.parametrize("share_met", [0.0, 0.3, 0.95, 1.0])
def test_ties_go_to_the_smaller_place(items: int, share_met: float) -> None:
    random = np.random.default_rng(items)
    few = torch.from_numpy(random.integers(-2, 3, (6, items))).float()
    many = torch.from_numpy(random.standard_normal((2, items))).float()
    scores = torch.cat([few, many, torch.zeros(1, items), torch.full((1, items), -3.0)])
    met = random.random((len(scores), items)) < share_met
    assert ranked(scores, torch.from_numpy(met)).tolist() == _by_hand(scores, met)


def test_nobody_has_no_ranking() -> None:
    assert ranked(torch.zeros(0, 300), None).shape == (0, max(DEPTHS))
