from __future__ import annotations

import pytest
import torch

from meshfold.kernels.filter.bundles import ITEMS
from meshfold.kernels.filter.steps import FilterBatch
from meshfold.model.index.placement import Numbering, Placement, filters_on, local

SIZES = (700, 0, 3, 900, 512, 1, 0, 640, 5, 0)


def placed(shards: int, sizes: tuple[int, ...] = SIZES) -> Placement:
    return Placement.of(torch.tensor([0, *sizes]).cumsum(0), shards)


def test_clusters_are_dealt_by_size() -> None:
    placement = placed(2)
    # 900, then 700 and 640 to the other, 512 to the first, and what is left to whoever has less.
    assert placement.owners[[3, 0, 7, 4]].tolist() == [0, 1, 1, 0]
    held = [placement.sizes(shard) for shard in range(2)]
    assert torch.equal(held[0] + held[1], torch.tensor(SIZES))
    assert abs(int(held[0].sum()) - int(held[1].sum())) < 100


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 20])
def test_every_item_has_one_place_in_the_shard_of_its_cluster(shards: int) -> None:
    placement = placed(shards)
    stored = placement.stored()
    assert len(set(stored.tolist())) == sum(SIZES)
    assert all(base % ITEMS == 0 for base in placement.bases)
    for shard in range(shards):
        positions = placement.positions(shard)
        places = local(stored, placement.bases, shard)
        assert places[positions].tolist() == list(range(len(positions)))
        assert (places >= 0).sum() == len(positions)


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 20])
def test_numbers_go_there_and_back(shards: int) -> None:
    placement = placed(shards)
    numbering = Numbering(placement)
    positions = torch.arange(-1, sum(SIZES)).view(-1, 1)
    stored = numbering.stored(positions)
    assert torch.equal(stored[1:, 0], placement.stored())
    assert stored[0] == -1
    assert torch.equal(numbering.positions(stored), positions)


def test_a_shard_excludes_its_own_items() -> None:
    placement = placed(3)
    numbers = torch.arange(3).view(3, 1, 1)
    excluded = torch.cat([placement.stored()[::100], torch.tensor([-1])]).unsqueeze(0)
    programs = FilterBatch(numbers, numbers[:, 0], numbers, excluded)
    seen = [filters_on(programs, placement.bases, shard, torch.device("cpu")).excluded for shard in range(3)]
    assert ((torch.stack(seen) >= 0).sum(0) == (excluded >= 0).long()).all()
