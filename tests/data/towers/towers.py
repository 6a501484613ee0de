"""Modules of somebody's own, which `meshfold build` takes by import path: small, with fixed random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from meshfold.model.inputs import PAD, HashBuckets

D = 16


class Items(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.buckets, self.table = HashBuckets(97), nn.Embedding(98, D, padding_idx=0)
        self.layer = nn.Linear(D + 2, D)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        words = self.table(self.buckets(torch.cat([inputs["language"], inputs["tags"], inputs["title"]], 1)))
        year = inputs["year"][:, :1]
        year = torch.where(year == PAD, 0.0, year.float() / 2000)
        out: Tensor = self.layer(torch.cat([words.sum(1), year, inputs["price"]], 1))
        return out


class User(nn.Module):
    def __init__(self, nudge: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.buckets, self.table = HashBuckets(50), nn.Embedding(51, D, padding_idx=0)
        first = nn.Linear(2 * D + 2, 4 * D)
        self.layers = nn.Sequential(first, nn.ReLU(), nn.Linear(4 * D, 2 * D), nn.Dropout(0.5))
        with torch.no_grad():
            first.weight[3, 5] += nudge

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        known = inputs["in_history"].float().unsqueeze(-1)
        mean = (inputs["history_vectors"] * known).sum(1) / known.sum(1).clamp(min=1.0)
        words = torch.cat([inputs["country"], inputs["search"], inputs["ages"], inputs["history"]], 1)
        told = self.table(self.buckets(words)).sum(1)
        out: Tensor = self.layers(torch.cat([mean, told, inputs["clock"]], 1))
        return out.view(-1, 2, D)


class Rank(nn.Module):
    def __init__(self, nudge: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        last = nn.Linear(32, 1)
        self.layers = nn.Sequential(nn.Linear(2 * D + 1, 32), nn.ReLU(), last)
        with torch.no_grad():
            last.bias.add_(nudge)

    def forward(self, users: Tensor, items: Tensor, similarities: Tensor) -> Tensor:
        crossed = users.unsqueeze(2) * items.unsqueeze(1)
        told = [crossed, items.unsqueeze(1).expand_as(crossed), similarities.unsqueeze(-1)]
        out: Tensor = self.layers(torch.cat(told, -1))
        return out.squeeze(-1)


def nudged_user() -> nn.Module:
    return User(1e-6)


def nudged_rank() -> nn.Module:
    return Rank(1e-6)
