"""The user module: from what a request says of its user to one query vector a task."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HistoryMean(nn.Module):
    """The query vectors that came with the request, else the normalised mean of the history's item vectors.

    Sums are taken by halving: elementwise additions in one order, so that the same history gives the same
    bytes in any batch and on any device.
    """

    def forward(
        self, query_vectors: Tensor, has_vector: Tensor, history_vectors: Tensor, in_history: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(vectors: [B, T, D] float32, known: [B] bool - False where nothing is known: a zero vector).

        query_vectors: [B, T, D] float32. has_vector: [B] bool. history_vectors: [B, H, D] float32 - of the
        items; in_history: [B, H] bool - which of them are there.
        """
        total = _sum(torch.where(in_history.unsqueeze(-1), history_vectors.double(), 0.0))
        length = torch.sqrt(_sum(total.square().unsqueeze(-1)))
        mean = total / torch.where(length > 0, length, 1.0)
        chosen = torch.where(has_vector[:, None, None], query_vectors, mean.float().unsqueeze(1))
        return chosen, (chosen != 0).flatten(1).any(1)


def _sum(x: Tensor) -> Tensor:
    """x: [B, n, m] float64 -> [B, m]. Zeros appended to n change nothing, not even the rounding."""
    n = x.shape[1]
    x = nn.functional.pad(x, (0, 0, 0, (1 << max(n - 1, 0).bit_length()) - n))
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        x = x[:, :half] + x[:, half:]
    return x[:, 0]
