"""Ranking modules: from user, items and similarities to one score a task."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from meshfold.model.program import Program

# Candidates that an OverArch scores at once, always so many.
TILE = 2048
_LARGEST = torch.finfo(torch.float32).max

# positions: [n] int64 -> [n, D] float32, vectors of items as the index holds them.
ItemVectors = Callable[[Tensor], Tensor]


class SimilarityRanking(nn.Module):
    """The ranking of a snapshot without an OverArch: a task's score is its similarity."""

    def forward(
        self, user_vectors: Tensor, positions: Tensor, similarities: Tensor, item_vectors: ItemVectors
    ) -> Tensor:
        """[B, T, K] float32. similarities: [B, T, K] float32; the others are not read."""
        return similarities


class ProgramRanking(nn.Module):
    """A published OverArch, run for one user and TILE candidates at a time, whatever the company."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        # What a user's vectors give is the same for all tiles.
        self._of_user, self._of_items = program.halves()

    def forward(
        self, user_vectors: Tensor, positions: Tensor, similarities: Tensor, item_vectors: ItemVectors
    ) -> Tensor:
        """[B, T, K] float32; NaN becomes 0.

        user_vectors: [B, T, D] float32. positions: [B, K] int64. similarities: [B, T, K] float32.
        """
        k = positions.shape[1]
        tiles = -(-k // TILE)
        padded = nn.functional.pad(positions, (0, tiles * TILE - k), value=-1)
        given = nn.functional.pad(similarities, (0, tiles * TILE - k))
        rows = []
        for b in range(positions.shape[0]):
            of_user = self._of_user(user_vectors[b : b + 1])
            items = item_vectors(padded[b : b + 1])
            scores = [
                self._of_items(
                    *of_user,
                    items[:, start : start + TILE],
                    given[b : b + 1, :, start : start + TILE].contiguous(),
                )
                for start in range(0, tiles * TILE, TILE)
            ]
            rows.append(torch.cat([given[b : b + 1, :, :0], *scores], 2)[:, :, :k])
        return torch.cat(rows).nan_to_num(0.0, _LARGEST, -_LARGEST)
