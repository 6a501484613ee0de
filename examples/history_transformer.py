"""A user tower of one's own: a small transformer over the history.

    meshfold build ml-latest-small --vectors vectors.parquet \
        --user-tower examples/history_transformer.py:tower --store store

It reads the vectors of the history's items as the index holds them, so that it has no table of items to keep in
step, and items that were added after it was trained are read like any other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HistoryTransformer(nn.Module):
    """Attends from each task to the history; the mean of the history passes beside it.

    With untrained weights it is the mean, nearly: the attention's output is scaled by `gate`, which starts small.
    """

    def __init__(
        self, dimension: int, tasks: int, history: int = 128, heads: int = 4, layers: int = 2
    ) -> None:
        super().__init__()
        self.ages = nn.Parameter(torch.randn(1, history, dimension) * 0.02)
        layer = nn.TransformerEncoderLayer(dimension, heads, 2 * dimension, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.tasks = nn.Linear(dimension, tasks * dimension)
        self.gate = nn.Parameter(torch.tensor(0.1))
        self._shape = (-1, tasks, dimension)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """[B, T, D] float32. inputs: history_vectors [B, H, D] float32, in_history [B, H] bool."""
        vectors, known = inputs["history_vectors"], inputs["in_history"]
        # A row in which nothing may be attended to would give NaN: the first place stays open.
        hidden = ~known
        hidden = torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, 1:]], 1)
        seen = self.encoder(vectors + self.ages, src_key_padding_mask=hidden)
        share = known.float().unsqueeze(-1) / known.float().sum(1).clamp(min=1.0)[:, None, None]
        mean = (vectors * share).sum(1)
        attended = self.tasks((seen * share).sum(1)).view(self._shape)
        return mean.unsqueeze(1) + self.gate * attended


def tower() -> nn.Module:
    """What the import path names: 64 dimensions and 2 tasks, as `meshfold vectors` and MovieLens have them."""
    torch.manual_seed(0)
    return HistoryTransformer(dimension=64, tasks=2)
