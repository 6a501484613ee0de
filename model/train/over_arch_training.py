"""Training of OverArch on candidates of an index for users whose next interactions are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from meshfold.model.data.interactions import Bools
from meshfold.model.progress import Progress
from meshfold.model.train.calibration import fit_platt
from meshfold.model.train.candidates import CandidateLists, PublishedIndex
from meshfold.model.train.checkpoint import Checkpoints
from meshfold.model.train.config import TrainConfig
from meshfold.model.train.loop import Best, Plan, draw, learn
from meshfold.model.train.metrics import HeldOut, mean_over
from meshfold.model.train.over_arch import OverArch, new_over_arch
from meshfold.model.types import Int64s

VALIDATED_AT = 50
# Candidates of an example in one step, the right ones included.
_SAMPLED = 128
_WEIGHT_DECAY = 1e-2
_EXAMPLES_AT_A_TIME = 16


@dataclass(frozen=True, eq=False)
class Labelled:
    """Candidates of E examples with their labels.

    labels: [E, T, M] bool - whether the user interacted with the candidate later. held_out: for each task, the later
    interactions by example.
    """

    lists: CandidateLists
    labels: Bools
    held_out: list[HeldOut]

    @classmethod
    def of(cls, lists: CandidateLists, held_out: list[HeldOut]) -> Self:
        labels = np.stack([by_task.hits(lists.places.numpy()) for by_task in held_out], 1)
        return cls(lists, labels, held_out)


class Folds(nn.Module):
    """Three OverArchs of one kind for cross-validation.

    Each of `halves` learns from one half of the users and is validated on the other. `whole` learns from all users, for
    the number of steps that was best for the halves.
    """

    def __init__(self, halves: Sequence[OverArch], whole: OverArch) -> None:
        super().__init__()
        self.halves, self.whole = nn.ModuleList(halves), whole

    def of_half(self, fold: int) -> OverArch:
        half = self.halves[fold]
        assert isinstance(half, OverArch)
        return half


class OverArchTask:
    """The loss of a step and the validation.

    learned: examples to learn from. folds: [E] int64 - 0 or 1, the half that each example's user belongs to. judged:
    for each half, validation examples of the other half's users.
    """

    def __init__(
        self,
        index: PublishedIndex,
        learned: Labelled,
        folds: Int64s,
        judged: Sequence[Labelled],
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        self._index, self._config, self._device = index, config, device
        self._learned, self._judged = learned, judged
        # An example teaches only where it has right and wrong candidates.
        real = learned.lists.places.numpy() >= 0
        some = learned.labels.any((1, 2)) & (real[:, None] & ~learned.labels).any((1, 2))
        self._halves = [np.flatnonzero(some & (folds == fold)) for fold in (0, 1)]

    def train(self, saved: Checkpoints, progress: Progress) -> tuple[OverArch, Best]:
        """Trains on all users. Returns the OverArch of all and its best step.

        The number of steps and the calibration come from the halves, each on users that it did not learn from.
        """
        config = self._config
        _, tasks, dimension = self._learned.lists.user_vectors.shape
        first, second, whole = (
            new_over_arch(config.over_arch, tasks, dimension, config.hidden, config.seed) for _ in range(3)
        )
        plan = Plan(
            config.over_arch_steps if all(len(half) for half in self._halves) else 0,
            2 * config.validate_every,
            config.patience,
            config.over_arch_learning_rate,
            _WEIGHT_DECAY,
        )
        folds = Folds([first, second], whole).to(self._device)
        trained, best = learn(folds, self.loss, self.validate, plan, "over_arch", saved, progress)
        self._calibrate(trained)
        return trained.whole, best

    def loss(self, folds: Folds, step: int) -> Tensor:
        """[] float32 - the sum of the three losses, each on a batch of its own."""
        random = draw(self._config.seed, "over_arch", step)
        losses = [self._loss(folds.of_half(fold), self._halves[fold], random) for fold in (0, 1)]
        return losses[0] + losses[1] + self._loss(folds.whole, np.concatenate(self._halves), random)

    def _loss(self, module: OverArch, useful: Int64s, random: np.random.Generator) -> Tensor:
        """[] float32 - the mean over tasks and examples of -log softmax of each right candidate among wrong ones."""
        rows = random.choice(useful, min(self._config.over_arch_batch_size, len(useful)))
        right = self._learned.labels[rows]
        lists = self._learned.lists
        order = random.random(lists.places[rows].shape) - right.any(1)
        chosen = np.argsort(order, axis=1, kind="stable")[:, :_SAMPLED]
        places = np.take_along_axis(lists.places.numpy()[rows], chosen, 1)
        similarities = np.take_along_axis(lists.similarities.numpy()[rows], chosen[:, None], 2)
        labels = torch.from_numpy(np.take_along_axis(right, chosen[:, None], 2)).to(self._device)
        on = torch.from_numpy(places).to(self._device)
        users = lists.user_vectors[torch.from_numpy(rows)].to(self._device)
        given = torch.from_numpy(similarities).to(self._device)
        # Dropout draws from the process's generator: fork it and seed it by the step.
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(int(random.integers(2**63)))
            logits = module.logits(users, self._index.vectors(on), given)
        wrong = ~labels & (on >= 0).unsqueeze(1)
        rest = torch.where(wrong, logits, -1e9).logsumexp(-1, keepdim=True)
        losses = torch.logaddexp(logits, rest) - logits
        counts = labels.sum(-1)
        means = torch.where(labels, losses, 0.0).sum(-1) / counts.clamp(min=1)
        return (means.sum(0) / (counts > 0).sum(0).clamp(min=1)).mean()

    def validate(self, folds: Folds) -> float:
        """The mean over tasks, and over the users of both halves, of NDCG@50."""
        values = []
        for fold, judged in enumerate(self._judged):
            logits = folds.of_half(fold).logits
            orders = over_arch_rankings(logits, self._index, judged.lists, self._device)
            values.append(mean_over(orders, judged.held_out, "ndcg", VALIDATED_AT))
        return float(np.mean(values))

    def _calibrate(self, folds: Folds) -> None:
        logits, labels = [], []
        for fold, judged in enumerate(self._judged):
            real = judged.lists.places >= 0
            given = _scores(folds.of_half(fold).logits, self._index, judged.lists, self._device)
            logits.append(given.transpose(1, 2)[real])
            labels.append(torch.from_numpy(judged.labels).transpose(1, 2)[real])
        given, right = torch.cat(logits), torch.cat(labels)
        for task in range(given.shape[1]):
            slope, offset = fit_platt(given[:, task], right[:, task])
            folds.whole.slope[task], folds.whole.offset[task] = slope, offset
        # A task without a right candidate has no data for calibration.
        taught = right.any(0) & torch.from_numpy(self._learned.labels).any(0).any(-1)
        folds.whole.untaught = tuple(torch.nonzero(~taught)[:, 0].tolist())


def over_arch_rankings(
    scores_of: Callable[[Tensor, Tensor, Tensor], Tensor],
    index: PublishedIndex,
    lists: CandidateLists,
    device: torch.device,
) -> list[Int64s]:
    """For each task [E, M] int64 - the candidates by its score, best first, -1 after the last.

    Ties go to the smaller place. scores_of: an OverArch, or its logits.
    """
    scores = _scores(scores_of, index, lists, device)
    scores = scores.masked_fill((lists.places < 0).unsqueeze(1), -torch.inf)
    by_place = lists.places.argsort(1)
    places = lists.places.gather(1, by_place)
    scores = scores.gather(2, by_place.unsqueeze(1).expand_as(scores))
    at = torch.argsort(scores, dim=2, descending=True, stable=True)
    return [places.gather(1, at[:, task]).numpy() for task in range(scores.shape[1])]


def _scores(
    scores_of: Callable[[Tensor, Tensor, Tensor], Tensor],
    index: PublishedIndex,
    lists: CandidateLists,
    device: torch.device,
) -> Tensor:
    parts = []
    with torch.no_grad():
        for start in range(0, len(lists.places), _EXAMPLES_AT_A_TIME):
            part = slice(start, start + _EXAMPLES_AT_A_TIME)
            items = index.vectors(lists.places[part].to(device))
            users, similarities = lists.user_vectors[part].to(device), lists.similarities[part].to(device)
            parts.append(scores_of(users, items, similarities).cpu())
    return torch.cat(parts)
