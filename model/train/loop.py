"""The training loop: AdamW, averaged weights, early stopping and checkpoints.

A step depends on the weights, the state of the optimizer and the step's number alone. A run that was killed and
continued therefore ends with the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from meshfold.model.progress import Progress
from meshfold.model.train.checkpoint import Checkpoints

M = TypeVar("M", bound=nn.Module)

# Decay of the moving average of weights. Averaged weights vary less and rank better than those of a single step.
_DECAY = 0.98


@dataclass(frozen=True)
class Plan:
    """Length and optimizer settings of one stage.

    steps: limit of steps; the exact number without validation. every: steps between checkpoints, and between
    validations. patience: validations without an improvement that end training.
    """

    steps: int
    every: int
    patience: int
    learning_rate: float
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Best:
    """The step whose averaged weights were kept, and their validation's value, None without validation."""

    step: int
    value: float | None


def draw(seed: int, stage: str, step: int) -> np.random.Generator:
    """A generator of random numbers that depends on seed, stage and step alone."""
    return np.random.default_rng([seed, step, *stage.encode()])


def learn(
    module: M,
    loss_at: Callable[[M, int], Tensor],
    validate: Callable[[M], float] | None,
    plan: Plan,
    stage: str,
    checkpoints: Checkpoints,
    progress: Progress,
) -> tuple[M, Best]:
    """Trains the module. Returns it with averaged weights: of the best validation, or of the last step without one.

    loss_at: gives the loss of a step. validate: larger is better, and ties go to the earlier step. The untrained
    module is validated too, so that training never makes it worse by that measure.
    """
    average = copy.deepcopy(module).eval()
    run = _Run(module, average, plan, stage, checkpoints)
    if not run.resume() and validate is not None:
        run.judge(validate(average))
    progress(stage, run.step, plan.steps)
    while run.step < plan.steps and run.waited < plan.patience:
        run.advance(loss_at(module, run.step))
        progress(stage, run.step, plan.steps)
        if run.step % plan.every == 0 or run.step == plan.steps:
            if validate is not None:
                run.judge(validate(average))
            run.save()
    progress(stage, plan.steps, plan.steps)
    if validate is None:
        return average, Best(run.step, None)
    average.load_state_dict(run.best_weights)
    return average, Best(run.best_step, run.best_value)


class _Run:
    """The state of a stage, all of which a checkpoint holds."""

    def __init__(
        self, module: nn.Module, average: nn.Module, plan: Plan, stage: str, checkpoints: Checkpoints
    ) -> None:
        self.module, self.average = module, average
        self.step = self.waited = self.best_step = 0
        self.best_value: float | None = None
        self.best_weights: dict[str, Tensor] = {}
        self._stage, self._checkpoints = stage, checkpoints
        self._optimizer = torch.optim.AdamW(
            module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
        )

    def advance(self, loss: Tensor) -> None:
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self.step += 1
        # The decay grows with the step, for an early average has few steps.
        decay = min(_DECAY, self.step / (9 + self.step))
        with torch.no_grad():
            for average, weight in zip(self.average.parameters(), self.module.parameters(), strict=True):
                average.lerp_(weight, 1 - decay)

    def judge(self, value: float) -> None:
        self.waited += 1
        if self.best_value is None or value > self.best_value:
            self.best_step, self.best_value, self.waited = self.step, value, 0
            self.best_weights = {k: v.detach().clone() for k, v in self.average.state_dict().items()}

    def save(self) -> None:
        tensors = {
            **_prefixed("module.", self.module.state_dict()),
            **_prefixed("average.", self.average.state_dict()),
            **_prefixed("best.", self.best_weights),
        }
        for place, slots in self._optimizer.state_dict()["state"].items():
            tensors |= _prefixed(f"optimizer.{place}.", slots)
        state = {
            "step": self.step,
            "waited": self.waited,
            "best_step": self.best_step,
            "best_value": self.best_value,
        }
        self._checkpoints.save(self._stage, tensors, state)

    def resume(self) -> bool:
        """Loads the stage's checkpoint. Returns whether there was one."""
        found = self._checkpoints.load(self._stage)
        if found is None:
            return False
        tensors, state = found
        self.module.load_state_dict(_under("module.", tensors))
        self.average.load_state_dict(_under("average.", tensors))
        self.best_weights = _under("best.", tensors)
        slots: dict[int, dict[str, Any]] = {}
        for name, tensor in _under("optimizer.", tensors).items():
            place, _, slot = name.partition(".")
            slots.setdefault(int(place), {})[slot] = tensor
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.step, self.waited = state["step"], state["waited"]
        self.best_step, self.best_value = state["best_step"], state["best_value"]
        return True


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
