"""Checks that a program's output for a row does not depend on the other rows of the batch.

Serving batches arbitrary rows: candidates of a query in tiles, items in batches, users one by one. The checks run a
program with the same rows in another order, beside padding and beside other rows. A row's output must stay equal up to
rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from meshfold.model.errors import InvalidData
from meshfold.model.program import Program
from meshfold.model.program_difference import as_written, difference
from meshfold.model.program_samples import over_arch_samples, rows_at, stacked, user_samples
from meshfold.model.schema import Schema

# Factor of the numbers in other rows, which are larger than usual.
_LARGER = 8.0
# Largest share of a list's scores that may differ. Rounding can change ranks inside a program that ranks its scores.
_RANK_CHANGES = 0.01
_ORDER, _PADDING, _OTHERS = "in another order", "beside padding", "beside others"


def check_over_arch(name: str, program: Program, schema: Schema, dimension: int, listwise: int) -> None:
    """Raises InvalidData where a candidate's score depends on the other candidates, or for a listwise OverArch on their
    order and on padding."""
    generator = torch.Generator().manual_seed(3)
    for sample in over_arch_samples(schema, dimension, listwise):
        batches = _batches_of_lists if listwise else _batches_of_candidates
        with torch.inference_mode():
            for how, expected, actual in batches(program, sample, generator):
                size = difference(expected, actual, program.is_half, _RANK_CHANGES if listwise else 0.0)
                if size and listwise:
                    raise InvalidData(
                        f"{name}, which is listwise, gives a candidate another score {how} ({size}); mask absent"
                        " candidates with `present`, and make scores independent of a candidate's place"
                    )
                if size:
                    raise InvalidData(
                        f"{name} gives a candidate another score {how} ({size}): its scores depend on the candidates"
                        " beside it, as where it normalises, sorts or attends over them; score each candidate by"
                        " itself, or declare the module `listwise` (docs/models.md)"
                    )


def _batches_of_candidates(
    program: Program, sample: tuple[Tensor, ...], generator: torch.Generator
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Runs a program on other batches of the same candidates. Yields (kind of batch, expected scores, scores)."""
    users, items, similarities = sample
    m = items.shape[1]
    scores = program(users, items, similarities)
    order = torch.randperm(m, generator=generator)
    yield _ORDER, scores[:, :, order], program(users, items[:, order], similarities[:, :, order].contiguous())
    kept = torch.zeros(m, dtype=torch.bool)
    kept[order[: m // 2]] = True
    # The padding of ProgramRanking: an arbitrary item with a similarity of 0.
    padded = torch.where(kept[:, None], items, items[:, :1])
    actual = program(users, padded, torch.where(kept, similarities, 0.0))
    yield _PADDING, scores[:, :, kept], actual[:, :, kept]
    others = items.flip(1) * -_LARGER
    mixed = torch.where(kept[:, None], items, others)
    actual = program(users, mixed, torch.where(kept, similarities, users @ others.transpose(1, 2)))
    yield _OTHERS, scores[:, :, kept], actual[:, :, kept]


def _batches_of_lists(
    program: Program, sample: tuple[Tensor, ...], generator: torch.Generator
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The same as _batches_of_candidates for a listwise program."""
    users, items, similarities, _ = sample
    m = items.shape[1]
    order = torch.randperm(m, generator=generator)
    for count in {m, max(1, m // 2)}:
        present = (torch.arange(m) < count).unsqueeze(0)
        real, given = torch.where(present[..., None], items, 0.0), torch.where(present, similarities, 0.0)
        scores = program(users, real, given, present)
        actual = program(users, real[:, order], given[:, :, order].contiguous(), present[:, order])
        kept = present[0]
        yield _ORDER, scores[:, :, order][:, :, kept[order]], actual[:, :, kept[order]]
        if count < m:
            others = torch.where(present[..., None], items, items.flip(1) * _LARGER)
            actual = program(users, others, torch.where(present, similarities, _LARGER), present)
            yield "beside other values of absent candidates", scores[:, :, kept], actual[:, :, kept]


def check_item_tower(
    name: str, program: Program, inputs: Mapping[str, Tensor], others: Mapping[str, Tensor]
) -> None:
    """Raises InvalidData where an item's vector depends on the other items of a batch.

    inputs, others: two batches of a catalog, or one batch twice.
    """
    rows = len(inputs["item_ids"])
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        vectors = program(dict(inputs))
        if not isinstance(vectors, Tensor) or vectors.dim() != 2 or len(vectors) != rows:
            return
        kept = torch.zeros(rows, dtype=torch.bool)
        kept[order[: rows // 2]] = True
        padded = torch.where(kept, torch.arange(rows), rows - 1)
        mixed = {n: _among(kept, tensor, others[n]) for n, tensor in inputs.items()}
        for how, expected, actual in (
            (_ORDER, vectors[order], program(rows_at(inputs, order))),
            (_PADDING, vectors[kept], program(rows_at(inputs, padded))[kept]),
            (_OTHERS, vectors[kept], program(mixed)[kept]),
        ):
            size = difference(expected, actual, program.is_half)
            if size:
                raise InvalidData(
                    f"{name} gives an item another vector {how} ({size}): its vectors depend on the items beside them,"
                    " as where it normalises over the batch; compute each item by itself, with fixed statistics"
                )


def _among(kept: Tensor, tensor: Tensor, others: Tensor) -> Tensor:
    """The kept rows of `tensor`, with rows of `others` times -_LARGER in the other places."""
    strange = others * -_LARGER if tensor.is_floating_point() else others
    return torch.where(kept.view(-1, *[1] * (tensor.dim() - 1)), tensor, strange)


def check_user_tower(tower: nn.Module, schema: Schema, dimension: int) -> None:
    """Raises InvalidData where a user's vector in a batch differs from the vector of the user alone, as in serving."""
    samples: list[dict[str, Any]] = user_samples(schema, dimension)[1:]
    with torch.inference_mode(), as_written():
        try:
            alone = torch.cat([tower(sample) for sample in samples])
            together = tower(stacked(samples))
        except Exception:
            # The module accepts one user alone.
            return
    if not isinstance(together, Tensor) or together.shape != alone.shape:
        return
    size = difference(alone, together, together.dtype != torch.float32)
    if size:
        raise InvalidData(
            f"{type(tower).__name__} gives a user another vector beside other users ({size}): its vectors depend on the"
            " batch, as where it normalises over it; serving runs one user at a time: compute each user by itself,"
            " with fixed statistics"
        )
