"""User tower and OverArch of the headline, learned from what invented users prefer.

A preference is similarity plus what no dot product can say: products of a few directions of the user with rectified
directions of the item, another set for each task. The tower learns to find items that users with such a history prefer.
The OverArch learns, on what exact search finds for the tower's vectors, which of those a user takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.headline.catalog import TASKS
from meshfold.model.data.generated import World
from meshfold.model.inputs import HISTORY
from meshfold.model.progress import Progress
from meshfold.model.train.config import OverArchKind
from meshfold.model.train.over_arch import OverArch, new_over_arch
from meshfold.model.train.towers import UserTower
from meshfold.model.types import Float32s, Int64s

HISTORY_ITEMS = 30
HIDDEN = (256, 128, 64)
# Share of a user's best items that are in the history: one in _MET_OF.
_MET_OF = 4
# Number of items from which histories and preferences are drawn.
_KNOWN_ITEMS = 4096
_DIRECTIONS = 8
# Share of its candidates that a user takes.
_TAKEN = 0.2
_BATCH_USERS, _SAMPLED_ITEMS = 64, 64
_TOWER_NEGATIVES = 1024
_LEARNING_RATE = 2e-3


@dataclass(frozen=True)
class Lengths:
    """users: learned from. steps: of training, of each module. candidates: that an OverArch chooses among."""

    users: int = 800
    tower_steps: int = 300
    over_arch_steps: int = 1000
    candidates: int = 4096


SMALL = Lengths(users=300, tower_steps=60, over_arch_steps=300, candidates=2048)


class Preferences:
    """Preferences of users. vectors: [N, D] float32 of all items."""

    def __init__(self, vectors: Float32s, seed: int = 0) -> None:
        shape = (vectors.shape[1], len(TASKS) * _DIRECTIONS)
        generator = torch.Generator().manual_seed(seed)
        self._of_users = torch.randn(shape, generator=generator)
        self._vectors = torch.from_numpy(vectors)
        rectified = torch.relu(self._vectors @ torch.randn(shape, generator=generator))
        self._of_items = rectified - rectified.mean(0)

    def __call__(self, users: Tensor, rows: Int64s) -> Tensor:
        """[U, T, M] float32: similarity and the rest, each with a standard deviation of 1 over a user's items.

        users: [U, D]. rows: [U, M] - of items.
        """
        places = torch.from_numpy(rows)
        similarity = (self._vectors[places] @ users.unsqueeze(2)).squeeze(2).unsqueeze(1)
        parts = (len(TASKS), _DIRECTIONS)
        of_users = (users @ self._of_users).view(len(users), *parts)
        of_items = self._of_items[places].view(*places.shape, *parts)
        return _standard(similarity) + _standard(torch.einsum("umth,uth->utm", of_items, of_users))

    def taken(self, users: Tensor, rows: Int64s) -> Tensor:
        """[U, T, M] float32: the probability that a user takes an item."""
        offset = float(np.log(_TAKEN / (1 - _TAKEN)))
        return torch.sigmoid(1.5 * self(users, rows) + offset)


@dataclass(frozen=True, eq=False)
class Users:
    """vectors: [U, D] float32, read by Preferences alone. histories: [U, HISTORY_ITEMS] int64, oldest first.
    preferred: [U, T, HISTORY_ITEMS] int64: other items that the user prefers, of each task."""

    vectors: Float32s
    histories: Int64s
    preferred: Int64s

    @classmethod
    def draw(cls, count: int, vectors: Float32s, preferences: Preferences, seed: int) -> Users:
        n, d = vectors.shape
        random = np.random.default_rng([seed, 1])
        world = World(n, d)
        of_users = np.concatenate(
            [
                world.users_of_block((seed << 16) + start, min(512, count - start))[1]
                for start in range(0, count, 512)
            ]
        )
        histories, preferred = [], []
        for user in torch.from_numpy(of_users):
            known = random.integers(0, n, _KNOWN_ITEMS)
            liked = preferences(user.unsqueeze(0), known[None])[0]
            best = known[liked.mean(0).topk(_MET_OF * HISTORY_ITEMS).indices.numpy()]
            histories.append(random.permutation(best)[:HISTORY_ITEMS])
            preferred.append(known[liked.topk(HISTORY_ITEMS).indices.numpy()])
        return cls(of_users, np.stack(histories), np.stack(preferred))


def learn_tower(users: Users, vectors: Float32s, steps: int, progress: Progress) -> UserTower:
    """A softmax over a preferred item and items at random, for each task."""
    tower = UserTower(len(TASKS), vectors.shape[1], torch.Generator().manual_seed(0))
    tower.teach(range(len(TASKS)))
    optimizer = torch.optim.AdamW(tower.parameters(), lr=_LEARNING_RATE)
    random = np.random.default_rng(2)
    for step in range(steps):
        chosen = random.integers(0, len(users.vectors), _BATCH_USERS)
        places = random.integers(0, HISTORY_ITEMS, (_BATCH_USERS, 1, 1))
        right = np.take_along_axis(users.preferred[chosen], places, 2)[:, :, 0]
        others = torch.from_numpy(vectors[random.integers(0, len(vectors), _TOWER_NEGATIVES)])
        asked = tower(tower_inputs(users.histories[chosen], vectors))
        of_right = (asked * torch.from_numpy(vectors[right])).sum(2, keepdim=True)
        logits = torch.cat([of_right, asked @ others.T], 2)
        loss = functional.cross_entropy(
            logits.flatten(0, 1), torch.zeros(logits.shape[0] * logits.shape[1]).long()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress("training the tower", step + 1, steps)
    return tower.eval()


def tower_inputs(histories: Int64s, vectors: Float32s) -> dict[str, Tensor]:
    """Histories as a tower reads them. histories: [U, h] int64 - rows of vectors."""
    count, met = histories.shape
    rows = np.zeros((count, HISTORY), np.int64)
    rows[:, :met] = histories
    there = torch.arange(HISTORY).expand(count, -1) < met
    of_items = torch.where(there.unsqueeze(2), torch.from_numpy(vectors[rows]), 0.0)
    return {"history_vectors": of_items, "in_history": there}


def asked_vectors(tower: UserTower, users: Users, vectors: Float32s) -> Tensor:
    """[U, T, D] float32: the tower's vectors of users."""
    with torch.inference_mode():
        parts = [
            tower(tower_inputs(users.histories[start : start + 256], vectors))
            for start in range(0, len(users.vectors), 256)
        ]
    return torch.cat(parts).clone()


def candidates_of(asked: Tensor, vectors: Float32s, count: int, progress: Progress) -> Int64s:
    """[U, count] int64: rows of the items with the largest similarity over the tasks, by exact search."""
    items = torch.from_numpy(vectors)
    found = []
    for start in range(0, len(asked), 16):
        progress("searching exactly", start, len(asked))
        part = asked[start : start + 16]
        largest = torch.full((len(part), len(items)), -torch.inf)
        for task in range(part.shape[1]):
            torch.maximum(largest, part[:, task] @ items.T, out=largest)
        found.append(largest.topk(min(count, len(items))).indices)
    progress("searching exactly", len(asked), len(asked))
    return torch.cat(found).numpy()


def learn_over_arch(
    users: Users,
    asked: Tensor,
    candidates: Int64s,
    vectors: Float32s,
    preferences: Preferences,
    steps: int,
    progress: Progress,
) -> OverArch:
    """Binary cross-entropy on what users take of their candidates."""
    module = new_over_arch(OverArchKind.MLP, len(TASKS), vectors.shape[1], HIDDEN, 0)
    # In evaluation mode nothing is left out, and the first layer is as serving runs it.
    module.eval()
    optimizer = torch.optim.AdamW(module.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    random, luck = np.random.default_rng(3), torch.Generator().manual_seed(3)
    # Preferences are standardised over a user's items, so that a few hundred are judged together.
    offered = candidates[:, random.permutation(candidates.shape[1])[:1024]]
    taken = _taken(users, offered, preferences, progress)
    for step in range(steps):
        chosen = random.integers(0, len(offered), (_BATCH_USERS, 1))
        places = random.integers(0, offered.shape[1], (_BATCH_USERS, _SAMPLED_ITEMS))
        of_items = torch.from_numpy(vectors[offered[chosen, places]])
        of_users = asked[chosen[:, 0]]
        probability = torch.from_numpy(taken[chosen, :, places]).transpose(1, 2)
        label = (torch.rand(probability.shape, generator=luck) < probability).float()
        logits = module.logits(of_users, of_items, of_users @ of_items.transpose(1, 2))
        loss = functional.binary_cross_entropy_with_logits(logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress("training the OverArch", step + 1, steps)
    return module


def _taken(users: Users, offered: Int64s, preferences: Preferences, progress: Progress) -> Float32s:
    """[U, T, M] float32."""
    parts = []
    for start in range(0, len(offered), 64):
        progress("asking the users", start, len(offered))
        part = slice(start, start + 64)
        parts.append(preferences.taken(torch.from_numpy(users.vectors[part]), offered[part]))
    progress("asking the users", len(offered), len(offered))
    probabilities: Float32s = torch.cat(parts).numpy()
    return probabilities


def changed(over_arch: OverArch, asked: Tensor, candidates: Int64s, vectors: Float32s, best: int) -> float:
    """The share of the best by similarity that is not among the best by the OverArch's scores, over users."""
    shares = []
    with torch.inference_mode():
        for user, rows in zip(asked, candidates, strict=True):
            items = torch.from_numpy(vectors[rows]).unsqueeze(0)
            similarities = user.unsqueeze(0) @ items.transpose(1, 2)
            scores = over_arch(user.unsqueeze(0), items, similarities).sum(1)[0]
            plain = similarities.amax(1)[0].topk(best).indices
            shares.append(1 - np.isin(plain.numpy(), scores.topk(best).indices.numpy()).mean())
    return float(np.mean(shares))


def _standard(values: Tensor) -> Tensor:
    """With a mean of 0 and a standard deviation of 1 along the last dimension."""
    spread = values.std(-1, keepdim=True).clamp(min=1e-9)
    return (values - values.mean(-1, keepdim=True)) / spread
