from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from meshfold.kernels.filter.sign import SignedField, sign_reference
from tests.kernels.hard_signs import field, random_fields


def on(device: torch.device, own: SignedField) -> SignedField:
    return replace(own, **{name: getattr(own, name).to(device) for name in ("offsets", "values", "planes")})


# Within a word, at its end, at the end of a bundle, and past it.
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 512, 513])
def test_it_is_the_reference(n: int, device: torch.device) -> None:
    from meshfold.kernels.gpu.sign import sign_gpu

    fields, _, rows = random_fields(n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
    wanted = sign_reference(fields, order, rows)
    got = sign_gpu([on(device, own) for own in fields], order.to(device), rows)
    assert torch.equal(got.cpu(), wanted)
    assert not n or wanted.any()


def test_rows_of_many_planes_and_of_wide_hashes(device: torch.device) -> None:
    from meshfold.kernels.gpu.sign import sign_gpu

    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(-400, 400, (70, 3), generator=generator)
    held = [sorted(set(row)) for row in drawn.tolist()]
    # More than 256 planes, so that finding one takes more than 8 steps, and a hash of more rows than a program has.
    planes = list(range(-300, 0))
    fields = [field(held, planes, 2, 70, 2), field(held, list(range(-400, 400)), 442)]
    order = torch.randperm(70, generator=generator)
    got = sign_gpu([on(device, own) for own in fields], order.to(device), 1242)
    assert torch.equal(got.cpu(), sign_reference(fields, order, 1242))


def test_a_value_without_a_plane_is_refused(device: torch.device) -> None:
    from meshfold.kernels.gpu.sign import sign_gpu

    own = on(device, field([[1], [1, 7], [2]], (1, 2), 1))
    with pytest.raises(ValueError, match="an item holds value 7, which has no plane"):
        sign_gpu([own], torch.arange(3, device=device), 3)
