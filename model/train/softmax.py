"""Softmax over a sample of the catalog, corrected for each item's probability of being in the sample."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from meshfold.model.types import Float32s, Float64s, Int64s

# Negatives are drawn by popularity to this power, mixed with this share of a uniform distribution.
_POWER = 0.5
_UNIFORM_SHARE = 0.5


def chances(popularity: Float32s) -> Float64s:
    """[N] float64, summing to 1 - probabilities of items as negatives. popularity: [N] float32."""
    flattened = popularity.astype(np.float64) ** _POWER
    total = flattened.sum()
    n = len(popularity)
    uniform = np.full(n, 1.0 / n)
    if total == 0:
        return uniform
    mixed: Float64s = _UNIFORM_SHARE * uniform + (1 - _UNIFORM_SHARE) * flattened / total
    return mixed


def draw_negatives(cumulated: Float64s, draws: int, random: np.random.Generator) -> tuple[Int64s, Float32s]:
    """A sample of items: (places: [S] int64, ascending, each once; corrections: [S] float32).

    A correction is minus the log of the probability that the item is in the sample. Where draws >= N, the sample is all
    N items with corrections of 0. cumulated: [N] float64 - running sums of the probabilities.
    """
    n = len(cumulated)
    if draws >= n:
        return np.arange(n), np.zeros(n, np.float32)
    found = np.searchsorted(cumulated, random.random(draws) * cumulated[-1], side="right")
    places = np.unique(np.minimum(found, n - 1))
    chance = np.diff(cumulated, prepend=0.0)[places] / cumulated[-1]
    included = -np.expm1(draws * np.log1p(-chance))
    return places, (-np.log(included)).astype(np.float32)


def sampled_softmax_loss(
    user_vectors: Tensor,
    target_vectors: Tensor,
    labels: Tensor,
    negative_vectors: Tensor,
    corrections: Tensor,
    met: Tensor,
) -> Tensor:
    """[] float32 - the mean over tasks and examples of -log softmax of each target among unmet items.

    The sum over the catalog in the softmax's denominator is estimated from the sample, each item divided by
    its probability of being in it (Horvitz and Thompson 1952; the logQ correction of Bengio and Senecal 2003,
    and of Yi et al. 2019 for retrieval), so that popular negatives are not punished for being drawn often.

    user_vectors: [B, T, D]. target_vectors: [B, W, D]. labels: [B, T, W] bool. negative_vectors: [S, D].
    corrections: [S]. met: [B, S] bool - negatives that are in the history or among the targets.
    """
    targets = user_vectors @ target_vectors.transpose(1, 2)
    others = user_vectors @ negative_vectors.T + corrections
    rest = others.masked_fill(met.unsqueeze(1), -torch.inf).logsumexp(-1, keepdim=True)
    losses = torch.logaddexp(targets, rest) - targets
    counts = labels.sum(-1)
    means = torch.where(labels, losses, 0.0).sum(-1) / counts.clamp(min=1)
    return (means.sum(0) / (counts > 0).sum(0).clamp(min=1)).mean()


def among(sample: Tensor, places: Tensor) -> Tensor:
    """[B, S] bool - whether each row of places contains each item of the sample.

    sample: [S] int64, ascending. places: [B, n].
    """
    found = torch.searchsorted(sample, places).clamp(max=len(sample) - 1)
    slot = torch.where(sample[found] == places, found, len(sample))
    contains = torch.zeros(places.shape[0], len(sample) + 1, dtype=torch.bool, device=sample.device)
    return contains.scatter_(1, slot, True)[:, :-1]
