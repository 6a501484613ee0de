"""A tower from somebody's existing checkpoint, wrapped into the inputs that meshfold gives.

    python examples/wrapped_checkpoint.py --make checkpoint.safetensors     # stands for the checkpoint you have
    CHECKPOINT=checkpoint.safetensors meshfold build shop --vectors vectors.parquet \
        --user-tower examples/wrapped_checkpoint.py:tower --store store

The checkpoint's model has tables of its own: of the items it was trained on and of hashed countries. Both
vocabularies become part of the program; ids that it has not seen read row 0.
"""

from __future__ import annotations

import argparse
import os

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from meshfold.model.inputs import HashBuckets, Vocabulary

ITEMS, BUCKETS, WIDTH, TASKS, DIMENSION = 500, 64, 32, 2, 64


class TheirModel(nn.Module):
    """The model as its owners wrote it: places in tables in, one vector a task out."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(ITEMS + 1, WIDTH, padding_idx=0)
        self.countries = nn.Embedding(BUCKETS + 1, WIDTH, padding_idx=0)
        self.layers = nn.Sequential(nn.Linear(2 * WIDTH, 128), nn.ReLU(), nn.Linear(128, TASKS * DIMENSION))

    def forward(self, items: Tensor, countries: Tensor) -> Tensor:
        user = torch.cat([self.items(items).sum(1), self.countries(countries).sum(1)], 1)
        return self.layers(user).view(-1, TASKS, DIMENSION)


class Wrapped(nn.Module):
    """Reads what meshfold gives: `history` as item ids, and `country`, which the schema declares as strings."""

    def __init__(self, theirs: TheirModel, item_ids: Tensor) -> None:
        super().__init__()
        self.theirs = theirs
        self.items = Vocabulary(item_ids.numpy())
        self.countries = HashBuckets(BUCKETS)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        country = inputs.get(
            "country", torch.full_like(inputs["history"][:, :1], torch.iinfo(torch.int64).min)
        )
        return self.theirs(self.items(inputs["history"]), self.countries(country))


def tower() -> nn.Module:
    """What the import path names."""
    weights = load_file(os.environ["CHECKPOINT"])
    item_ids = weights.pop("item_ids")
    theirs = TheirModel()
    theirs.load_state_dict(weights)
    return Wrapped(theirs, item_ids)


def make(path: str) -> None:
    """A checkpoint with random weights."""
    torch.manual_seed(0)
    save_file({**TheirModel().state_dict(), "item_ids": torch.arange(1, ITEMS + 1)}, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Writes a checkpoint with random weights.")
    parser.add_argument("--make", required=True, metavar="FILE")
    make(parser.parse_args().make)
