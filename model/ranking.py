"""The ranking module: from similarities of candidates to their task scores, and to the value that orders."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LARGEST = torch.finfo(torch.float32).max

# What a request may name as its value formula.
SIMILARITY = "similarity"  # the largest similarity over the tasks; the default without task weights
WEIGHTED = "weighted"  # the sum of task weight times task score; the default with task weights
FORMULAS = (SIMILARITY, WEIGHTED)


class SimilarityRanking(nn.Module):
    """A task's score is its similarity; the value is the largest of them, or their weighted sum."""

    def forward(self, similarities: Tensor, weights: Tensor, weighted: Tensor) -> tuple[Tensor, Tensor]:
        """(values: [B, M] float32, task scores: [B, T, M] float32).

        similarities: [B, T, M] float32. weights: [B, T] float32. weighted: [B] bool.
        """
        sums = torch.zeros_like(similarities[:, 0])
        # Task by task, so that the order of the additions is the same for any batch.
        for task in range(similarities.shape[1]):
            sums = sums + weights[:, task, None] * similarities[:, task]
        sums = sums.nan_to_num(0.0, _LARGEST, -_LARGEST)
        return torch.where(weighted[:, None], sums, similarities.amax(1)), similarities
