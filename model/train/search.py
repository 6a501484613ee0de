"""Rankings of the whole catalog by exact scores, for many users."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from meshfold.model.inputs import HISTORY
from meshfold.model.train.examples import NOTHING, Timelines
from meshfold.model.train.metrics import DEPTHS
from meshfold.model.train.towers import UserTower
from meshfold.model.types import Int64s

USERS_AT_A_TIME = 256


def user_vectors(
    tower: UserTower,
    histories: Int64s,
    vectors_of: Callable[[Tensor], Tensor],
    device: torch.device,
) -> Tensor:
    """User vectors: [U, T, D] float32.

    histories: [U, H] int64 - places, oldest first, NOTHING after the last. vectors_of: places [..] -> item vectors
    [.., D], the tower's input.
    """
    parts = []
    with torch.no_grad():
        for start in range(0, len(histories), USERS_AT_A_TIME):
            places = torch.from_numpy(histories[start : start + USERS_AT_A_TIME]).to(device)
            parts.append(tower(tower_inputs(places, vectors_of(places.clamp(min=0)))))
    return torch.cat(parts)


def tower_inputs(places: Tensor, vectors: Tensor) -> dict[str, Tensor]:
    """The inputs of a user tower.

    places: [B, H] int64, NOTHING after the last. vectors: [B, H, D] float32; rows of NOTHING are replaced by zeros.
    """
    known = places >= 0
    return {"history_vectors": torch.where(known.unsqueeze(-1), vectors, 0.0), "in_history": known}


def exact_rankings(
    users: Tensor, items: Tensor, timelines: Timelines, rows: Int64s, exclude: bool
) -> list[Int64s]:
    """For each task [U, K] int64 - places by dot product, best first, ties to the smaller place.

    K: the largest of DEPTHS. users: [U, T, D], of timelines.users[rows]. items: [N, D]. exclude: leave out items that
    the user has met.
    """
    none = np.empty((0, min(max(DEPTHS), len(items))), np.int64)
    by_task = [[none] for _ in range(users.shape[1])]
    for start in range(0, len(rows), USERS_AT_A_TIME):
        part = slice(start, start + USERS_AT_A_TIME)
        met = torch.from_numpy(timelines.met(rows[part], len(items))).to(items.device) if exclude else None
        for task, found in enumerate(by_task):
            found.append(ranked(users[part, task] @ items.T, met))
    return [np.concatenate(found) for found in by_task]


def ranked(scores: Tensor, met: Tensor | None) -> Int64s:
    """[B, K] int64 - places, best first, ties to the smaller place, NOTHING after the last.

    scores: [B, N] without NaN. met: [B, N] bool - items to leave out.
    """
    if met is not None:
        scores = scores.masked_fill(met, -torch.inf)
    best = scores.topk(min(max(DEPTHS), scores.shape[1]), 1)
    places = best.indices.sort(1).values
    # topk picks arbitrarily among items that tie for the last place: pick the first of them instead.
    least = best.values[:, -1:]
    torn = ((scores >= least).sum(1) > places.shape[1]).nonzero()[:, 0]
    places[torn] = _first_of_ties(scores[torn], least[torn], places.shape[1])
    ordered = scores.gather(1, places).sort(dim=1, descending=True, stable=True)
    places = places.gather(1, ordered.indices)
    found: Int64s = torch.where(ordered.values > -torch.inf, places, NOTHING).cpu().numpy()
    return found


def _first_of_ties(scores: Tensor, least: Tensor, k: int) -> Tensor:
    """[B, k] int64 - places of scores above `least`, filled up with the first places of that score. least: [B, 1]."""
    above, tied = scores > least, scores == least
    taken = above | (tied & (tied.cumsum(1) <= k - above.sum(1, keepdim=True)))
    return taken.nonzero()[:, 1].view(len(scores), k)


def newest(timelines: Timelines, rows: Int64s) -> Int64s:
    """[U, H] int64 - the newest HISTORY items of the users."""
    return timelines.histories(rows, timelines.lengths[rows], HISTORY)
