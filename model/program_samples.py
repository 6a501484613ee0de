"""Sample inputs for checks of programs: usual ones, and unusual ones that callers may send."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from meshfold.model.inputs import HISTORY, PAD
from meshfold.model.ranking import TILE
from meshfold.model.schema import InputKind, Schema

# Items in the history of a sample user.
_MET = 40


def user_inputs(schema: Schema, dimension: int) -> dict[str, Tensor]:
    """The inputs of a user tower for a user without history and features."""
    inputs = {
        "history": torch.full((1, HISTORY), PAD),
        "history_vectors": torch.zeros(1, HISTORY, dimension),
        "in_history": torch.zeros(1, HISTORY, dtype=torch.bool),
    }
    for i in schema.inputs:
        floats = i.kind is InputKind.FLOATS
        inputs[i.name] = torch.zeros(1, i.length) if floats else torch.full((1, i.length), PAD)
    return inputs


def user_samples(schema: Schema, dimension: int) -> list[dict[str, Tensor]]:
    """A user without history and features, and two users with both, drawn with a fixed seed."""
    generator = torch.Generator().manual_seed(1)
    samples = [user_inputs(schema, dimension)]
    for met in (_MET, HISTORY):
        inputs = user_inputs(schema, dimension)
        inputs["history"][:, :met] = torch.randint(1, 1000, (1, met), generator=generator)
        inputs["history_vectors"][:, :met] = _vectors((1, met, dimension), generator)
        inputs["in_history"][:, :met] = True
        for i in schema.inputs:
            if i.kind is InputKind.FLOATS:
                inputs[i.name] = torch.randn((1, i.length), generator=generator)
            else:
                inputs[i.name] = torch.randint(1, 100, (1, i.length), generator=generator)
        samples.append(inputs)
    return samples


def strange_user(schema: Schema, dimension: int) -> dict[str, Tensor]:
    """A user with ids and hashes outside every table. Callers may send any, and none may make its batch fail."""
    strange = {name: torch.ones_like(t) for name, t in user_inputs(schema, dimension).items()}
    for t in strange.values():
        if t.dtype == torch.int64:
            t[:, ::2], t[:, 1::2] = torch.iinfo(t.dtype).max, PAD + 1
    return strange


def over_arch_inputs(schema: Schema, dimension: int, listwise: int = 0) -> tuple[Tensor, ...]:
    """User vectors [1, T, D], item vectors [1, M, D] and similarities [1, T, M], all zeros, M = TILE.

    For a listwise OverArch M = listwise, and a mask of present candidates, [1, M] bool, all false, comes last.
    """
    t, m = len(schema.tasks), listwise or TILE
    pointwise = (torch.zeros(1, t, dimension), torch.zeros(1, m, dimension), torch.zeros(1, t, m))
    return (*pointwise, torch.zeros(1, m, dtype=torch.bool)) if listwise else pointwise


def over_arch_samples(schema: Schema, dimension: int, listwise: int = 0) -> list[tuple[Tensor, ...]]:
    """Two samples of users and candidates with a fixed seed: item vectors of length about 1, and about sqrt(D)."""
    generator = torch.Generator().manual_seed(2)
    t, m = len(schema.tasks), listwise or TILE
    samples: list[tuple[Tensor, ...]] = []
    for scale in (1.0, dimension**0.5):
        users = _vectors((1, t, dimension), generator)
        items = _vectors((1, m, dimension), generator) * scale
        sample = (users, items, users @ items.transpose(1, 2))
        samples.append((*sample, torch.ones(1, m, dtype=torch.bool)) if listwise else sample)
    return samples


def stacked(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Users as one batch."""
    return {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}


def rows_at(inputs: Mapping[str, Tensor], places: Tensor) -> dict[str, Tensor]:
    """The rows at places of every input."""
    return {name: tensor[places] for name, tensor in inputs.items()}


def _vectors(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    vectors: Tensor = torch.randn(shape, generator=generator) / math.sqrt(shape[-1])
    return vectors
