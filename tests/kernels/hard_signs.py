"""Fields whose signatures go wrong: values at the ends of int64, with planes, hashed, both, and neither."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from meshfold.kernels.filter.sign import SignedField

INT64 = np.iinfo(np.int64)


def field(
    rows: Sequence[Sequence[int]],
    planes: Sequence[int] = (),
    first: int = 0,
    part: int = 0,
    hashes: int = 0,
) -> SignedField:
    return SignedField(
        torch.tensor([0, *map(len, rows)]).cumsum(0),
        torch.tensor([v for row in rows for v in row], dtype=torch.int64),
        torch.tensor(planes, dtype=torch.int64),
        first,
        part,
        hashes,
    )


def random_fields(n: int) -> tuple[list[SignedField], list[list[list[int]]], int]:
    """Planes of codes, planes of any integers, hashed values, some of them with planes, few rows with many hashes, and
    presence alone."""
    rng = np.random.default_rng(n)
    ends = [int(INT64.min), -1, 0, 5, int(INT64.max)]

    def draw(values: Sequence[int], most: int) -> list[list[int]]:
        return [
            sorted({values[i] for i in rng.integers(0, len(values), rng.integers(0, most))}) for _ in range(n)
        ]

    values = [range(7), ends, range(-500, 500), range(40), ends, range(3)]
    held = [draw(list(domain), most) for domain, most in zip(values, (4, 3, 6, 6, 6, 2), strict=True)]
    fields = [
        field(held[0], range(7), 6),
        field(held[1], ends, 13),
        field(held[2], (), 18, 20, 3),
        field(held[3], (3, 5, 39), 78, 7, 2),
        field(held[4], (), 95, 1, 8),
        field(held[5]),
    ]
    return fields, held, 103
