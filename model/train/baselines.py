"""Baselines that a trained model is compared with: popularity, and EASE, a linear item model in closed form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from meshfold.model.train.examples import Timelines
from meshfold.model.train.metrics import DEPTHS, mean_over
from meshfold.model.train.parts import Parts
from meshfold.model.train.search import USERS_AT_A_TIME, ranked
from meshfold.model.types import Int64s

# Limit of the smaller of users and items: EASE inverts a square matrix of that size.
MOST_SQUARED = 8192
# Limit of users * items, the numbers in the dense matrix.
MOST_CELLS = 200_000_000
_REGULARIZATIONS = (100.0, 200.0, 400.0)
# K of the recall@K that chooses the regularization.
_CHOSEN_AT = 50


def ease_scores(met: npt.NDArray[np.bool_], regularization: float) -> Tensor:
    """Scores of EASE (Steck 2019, Embarrassingly Shallow Autoencoders for Sparse Data): [U, N] float32.

    The scores are X B with B = I - P / diag(P) and P the inverse of X^T X + regularization * I. Where users are
    fewer than items, X P and diag(P) come from a users x users system (Woodbury's identity).

    met: [U, N] bool - X, whether each user met each item.
    """
    x = torch.from_numpy(met).double()
    users, items = x.shape
    if users <= items:
        gram = x @ x.T + regularization * torch.eye(users, dtype=torch.float64)
        xp = torch.linalg.solve(gram, x)
        diagonal = (1.0 - (x * xp).sum(0)) / regularization
    else:
        inverse = torch.linalg.inv(x.T @ x + regularization * torch.eye(items, dtype=torch.float64))
        xp, diagonal = x @ inverse, inverse.diagonal()
    scores: Tensor = (x - xp / diagonal).float()
    return scores


def ease_fits(users: int, items: int) -> bool:
    """Whether EASE fits the limits of time and memory, MOST_SQUARED and MOST_CELLS."""
    return min(users, items) <= MOST_SQUARED and users * items <= MOST_CELLS


def baseline_rankings(parts: Parts, rows: Int64s) -> tuple[dict[str, list[Int64s]], float | None]:
    """Rankings of the baselines, and EASE's regularization (None without EASE).

    The rankings are by name and task: [U, K] int64, item places, best first; they are the same for all tasks. EASE's
    regularization is the one with the best recall on the validation part. rows: [U] int64, indices into
    parts.known.users.
    """
    tasks = len(parts.tasks)
    rankings = {"popularity": [_popular(parts, rows)] * tasks}
    if not ease_fits(len(parts.known.users), parts.items):
        return rankings, None
    validated, cuts = parts.validation()
    # Recall of the first task that has held-out interactions decides.
    held_out = parts.held_out(parts.known, validated, cuts)
    held_out = sorted(held_out, key=lambda of_task: not len(of_task.keys))[:1]
    recalls = [
        mean_over([_ease(parts, parts.learned, validated, value)], held_out, "recall", _CHOSEN_AT)
        for value in _REGULARIZATIONS
    ]
    regularization = _REGULARIZATIONS[int(np.argmax(recalls))]
    return rankings | {"ease": [_ease(parts, parts.known, rows, regularization)] * tasks}, regularization


def _popular(parts: Parts, rows: Int64s) -> Int64s:
    counts = torch.from_numpy(np.bincount(parts.known.places, minlength=parts.items).astype(np.float32))
    found = [np.empty((0, min(max(DEPTHS), parts.items)), np.int64)]
    for start in range(0, len(rows), USERS_AT_A_TIME):
        part = rows[start : start + USERS_AT_A_TIME]
        met = torch.from_numpy(parts.known.met(part, parts.items)) if parts.exclude else None
        found.append(ranked(counts.expand(len(part), -1), met))
    return np.concatenate(found)


def _ease(parts: Parts, timelines: Timelines, rows: Int64s, regularization: float) -> Int64s:
    met = timelines.met(np.arange(len(timelines.users)), parts.items)
    scores = ease_scores(met, regularization)[torch.from_numpy(rows)]
    return ranked(scores, torch.from_numpy(met[rows]) if parts.exclude else None)
