"""User towers: from a user's data to one query vector for each task."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LARGEST = torch.finfo(torch.float32).max


class HistoryMean(nn.Module):
    """The tower of a snapshot without one: the normalised mean of the history's item vectors, for every task.

    Sums are computed by halving, as elementwise additions in a fixed order, so that the same history gives the same
    bytes in any batch and on any device.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self._tasks = tasks

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """[B, T, D] float32; zeros where the history is empty.

        inputs: history_vectors [B, H, D] float32, in_history [B, H] bool; other inputs are not read.
        """
        vectors = inputs["history_vectors"].double()
        total = _sum(torch.where(inputs["in_history"].unsqueeze(-1), vectors, 0.0))
        length = torch.sqrt(_sum(total.square().unsqueeze(-1)))
        mean = total / torch.where(length > 0, length, 1.0)
        return mean.float().unsqueeze(1).expand(-1, self._tasks, -1)


class ProgramTower(nn.Module):
    """A published tower, run one user at a time, so that a user's vectors do not depend on the batch."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self._program = program

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """[B, T, D] float32; NaN becomes 0. inputs: see docs/models.md."""
        rows = inputs["history"].shape[0]
        vectors = [self._program({name: t[i : i + 1] for name, t in inputs.items()}) for i in range(rows)]
        return torch.cat(vectors).nan_to_num(0.0, _LARGEST, -_LARGEST)


def _sum(x: Tensor) -> Tensor:
    """Sums over n: [B, m]. x: [B, n, m] float64. Zeros appended along n do not change the rounding."""
    n = x.shape[1]
    x = nn.functional.pad(x, (0, 0, 0, (1 << max(n - 1, 0).bit_length()) - n))
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        x = x[:, :half] + x[:, half:]
    return x[:, 0]
