"""Training of the towers: a user's next items against a sample of the catalog."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from meshfold.model.errors import InvalidData
from meshfold.model.inputs import HISTORY
from meshfold.model.progress import Progress
from meshfold.model.train.checkpoint import Checkpoints
from meshfold.model.train.config import TrainConfig
from meshfold.model.train.examples import Timelines
from meshfold.model.train.loop import Best, Plan, draw, learn
from meshfold.model.train.metrics import mean_over
from meshfold.model.train.parts import Parts
from meshfold.model.train.search import exact_rankings, newest, tower_inputs, user_vectors
from meshfold.model.train.softmax import among, chances, draw_negatives, sampled_softmax_loss
from meshfold.model.train.towers import Towers
from meshfold.model.types import Float32s, Float64s, Int64s

VALIDATED_AT = 50


class TowerTask:
    """The loss of a step and the validation of towers, over one set of timelines.

    timelines: interactions to learn from. rows: [U] int64 - users in the validation.
    """

    def __init__(
        self, parts: Parts, timelines: Timelines, rows: Int64s, config: TrainConfig, device: torch.device
    ) -> None:
        self._timelines, self._rows, self._config, self._device = timelines, rows, config, device
        self._held_out = parts.held_out(parts.known, rows, parts.validation_cuts[rows])
        # Where results leave out items that a user has met, those items are no negatives either.
        self._exclude = parts.exclude
        self._learned_from = np.flatnonzero(timelines.lengths >= 2)
        counts = np.bincount(timelines.places, minlength=parts.items).astype(np.float32)
        self._cumulated: Float64s = np.cumsum(chances(counts))

    def train(
        self, towers: Towers, steps: int, validated: bool, stage: str, saved: Checkpoints, progress: Progress
    ) -> tuple[Towers, Best]:
        """Trains the towers. validated: keep the weights of the best validation, else take exactly `steps`."""
        config = self._config
        towers.user.teach(self._timelines.tasks_ahead())
        plan = Plan(
            steps if len(self._learned_from) else 0,
            config.validate_every,
            config.patience,
            config.learning_rate,
        )
        judge = self.validate if validated else None
        return learn(towers.to(self._device), self.loss, judge, plan, stage, saved, progress)

    def loss(self, towers: Towers, step: int) -> Tensor:
        """[] float32 - the loss of a step's batch."""
        config, timelines = self._config, self._timelines
        random = draw(config.seed, "towers", step)
        users = random.choice(self._learned_from, config.batch_size)
        cuts = 1 + np.floor(random.random(len(users)) * (timelines.lengths[users] - 1)).astype(np.int64)
        ahead = np.maximum(1, np.floor(cuts * config.window_share)).astype(np.int64)
        examples = timelines.examples(users, cuts, HISTORY, ahead, config.targets)
        sample, corrections = draw_negatives(self._cumulated, config.negatives, random)
        negatives, history, targets, labels = (
            torch.from_numpy(part).to(self._device)
            for part in (sample, examples.history, examples.targets, examples.labels)
        )
        # Each distinct item of the batch is embedded once.
        parts = [negatives, history.flatten().clamp(min=0), targets.flatten().clamp(min=0)]
        places, at = torch.unique(torch.cat(parts), return_inverse=True)
        vectors = torch.nn.functional.embedding(at, towers.item(places))
        of_negatives, of_history, of_targets = torch.split(vectors, [part.numel() for part in parts])
        inputs = tower_inputs(history, of_history.view(*history.shape, -1))
        met = torch.cat([history, targets], 1) if self._exclude else targets
        return sampled_softmax_loss(
            towers.user(inputs),
            of_targets.view(*targets.shape, -1),
            labels,
            of_negatives,
            torch.from_numpy(corrections).to(self._device),
            among(negatives, met),
        )

    def validate(self, towers: Towers) -> float:
        """The mean over tasks of Recall@50 by exact search."""
        items = towers.item_vectors()
        histories = newest(self._timelines, self._rows)
        users = user_vectors(towers.user, histories, lambda places: items[places], self._device)
        rankings = exact_rankings(users, items, self._timelines, self._rows, self._exclude)
        return mean_over(rankings, self._held_out, "recall", VALIDATED_AT)


def scaled(vectors: Float32s) -> Float32s:
    """Vectors times one factor that makes the mean square length of nonzero vectors 1. vectors: [N, D]."""
    squares = np.square(vectors.astype(np.float64)).sum(1)
    if not squares.any():
        raise InvalidData("every item vector is zero; there is nothing to start training from")
    unit: Float32s = (vectors / np.sqrt(squares[squares > 0].mean())).astype(np.float32)
    return unit


def aligned(vectors: Float32s, to: Float32s) -> Float32s:
    """Vectors rotated to lie as near `to` as possible (orthogonal Procrustes, Schonemann 1966).

    vectors, to: [N, D] float32. This brings vectors of more data into the coordinates of vectors of less data, so that
    weights learned for these fit.
    """
    product = torch.from_numpy(vectors).double().T @ torch.from_numpy(to).double()
    left, _, right = torch.linalg.svd(product)
    turned: Float32s = (torch.from_numpy(vectors).double() @ left @ right).float().numpy()
    return turned
