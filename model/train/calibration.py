"""Scores as probabilities (Platt 1999, Probabilistic Outputs for Support Vector Machines)."""

from __future__ import annotations

import torch
from torch import Tensor

_ITERATIONS = 30
_LEAST_SLOPE = 1e-3


def fit_platt(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """(slope, offset) such that sigmoid(slope * logit + offset) is the probability that a candidate is right.

    logits: [n] float. labels: [n] bool. Newton's method on the likelihood with Platt's smoothed targets. The
    slope is positive, so that the order stays. Returns (1, 0) where all labels or all logits are equal.
    """
    positives = int(labels.sum())
    negatives = labels.numel() - positives
    if positives == 0 or negatives == 0:
        return 1.0, 0.0
    x = logits.double()
    mean, deviation = x.mean(), x.std()
    if deviation == 0:
        return 1.0, 0.0
    x = (x - mean) / deviation
    right, wrong = (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0)
    targets = torch.where(labels, right, wrong).double()
    features = torch.stack([x, torch.ones_like(x)])
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64, device=x.device)
    weights[1] = torch.logit(targets.mean())
    for _ in range(_ITERATIONS):
        p = torch.sigmoid(weights @ features)
        slope = features @ (targets - p) - 1e-6 * weights
        curve = (features * (p * (1 - p))) @ features.T + 1e-6 * torch.eye(2, dtype=x.dtype, device=x.device)
        step = torch.linalg.solve(curve, slope)
        weights = weights + step.clamp(-2.0, 2.0)
    steepness = max(float(weights[0] / deviation), _LEAST_SLOPE)
    return steepness, float(weights[1]) - steepness * float(mean)
