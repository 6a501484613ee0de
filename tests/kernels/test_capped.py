import numpy as np
import torch
from torch import Tensor

from meshfold.kernels.bundles import pack
from meshfold.kernels.capped import capped
from meshfold.kernels.columns import values_at

N = 600
RNG = np.random.default_rng(0)
# Field 0 holds one of five integers or nothing, field 1 up to three of nine.
ONE = [[int(RNG.integers(5))] if RNG.random() < 0.8 else [] for _ in range(N)]
MANY = [sorted({*RNG.integers(0, 9, RNG.integers(0, 4)).tolist()}) for _ in range(N)]
FIELDS = (ONE, MANY)


def columns() -> tuple[Tensor, list[Tensor], list[Tensor]]:
    present = torch.stack([pack(torch.tensor([bool(v) for v in field])) for field in FIELDS], 1)
    lengths = [len(v) for v in MANY]
    return (
        present,
        [torch.tensor([v[0] if v else 0 for v in ONE]), torch.tensor([v for row in MANY for v in row])],
        [torch.empty(0, dtype=torch.int64), torch.tensor([0, *np.cumsum(lengths).tolist()])],
    )


def slow(positions: list[int], field: int, limit: int) -> list[bool]:
    kept: dict[int, int] = {}
    stays = []
    for p in positions:
        own = FIELDS[field][p] if p >= 0 else []
        stays.append(p >= 0 and all(kept.get(v, 0) < limit for v in own))
        if stays[-1]:
            kept |= {v: kept.get(v, 0) + 1 for v in own}
    return stays


def test_values_are_those_of_the_items() -> None:
    signature, held, offsets = columns()
    positions = RNG.permutation(N)[:50]
    for field in (0, 1):
        lengths, values = values_at(
            signature, held[field], offsets[field], field, torch.from_numpy(positions)
        )
        own = [FIELDS[field][p] for p in positions.tolist()]
        assert lengths.tolist() == [len(v) for v in own]
        assert values.tolist() == [v for row in own for v in row]


def test_each_query_has_its_own_cap() -> None:
    signature, held, offsets = columns()
    positions = np.stack([RNG.permutation(N)[:200] for _ in range(4)])
    positions[1, 150:] = -1
    fields, limits = [0, 1, -1, 1], [3, 2, 0, 1]
    stays = capped(
        signature, held, offsets, torch.from_numpy(positions), torch.tensor(fields), torch.tensor(limits)
    )
    for b in (0, 1, 3):
        assert stays[b].tolist() == slow(positions[b].tolist(), fields[b], limits[b])
    assert stays[2].all()


def test_the_operator_is_what_it_is_registered_as() -> None:
    signature, held, offsets = columns()
    positions = torch.arange(40).view(2, 20)
    args = (signature, held, offsets, positions, torch.tensor([0, 1]), torch.tensor([1, 2]))
    torch.library.opcheck(capped, args, test_utils=("test_schema", "test_faketensor"))
