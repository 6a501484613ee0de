"""The towers: vectors of users and items whose dot product is a logit of interaction."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from meshfold.model.inputs import HISTORY
from meshfold.model.train.features import ItemFeatures
from meshfold.model.types import Float32s

_HIDDEN = 128
# Initial length of user vectors; training learns one for each task. With item vectors of mean length 1 it gives
# logits in the range of a softmax over a catalog.
_SCALE = 5.0


class UserTower(nn.Module):
    """A user vector for each task from the vectors of a history: attention by age and content, a head for each task.

    Before training it is the same for every task: the mean of the history with weights of the reciprocal root of an
    item's age. It has no parameters of single items, so that it reads items added after the training, too.

    untaught: tasks without training data. Their vectors are the mean of the other tasks', so that their similarity is
    never the largest, and they change neither the default order nor the candidates.
    """

    untaught: tuple[int, ...]

    def __init__(self, tasks: int, dimension: int, generator: torch.Generator) -> None:
        super().__init__()
        ages = torch.arange(HISTORY, dtype=torch.float32)
        self.by_age = nn.Parameter((-0.5 * torch.log1p(ages)).expand(tasks, -1).clone())
        self.by_content = nn.Parameter(torch.zeros(tasks, dimension))
        self.heads = nn.Parameter(torch.eye(dimension).expand(tasks, -1, -1).clone())
        self.widen = linear(dimension, _HIDDEN, generator)
        self.narrow = zero_linear(_HIDDEN, tasks * dimension)
        self.log_scale = nn.Parameter(torch.full((tasks,), math.log(_SCALE)))
        self.untaught = tuple(range(tasks))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """[B, T, D] float32; zeros where the catalog has no item of the history.

        inputs: "history_vectors": [B, H, D] float32 and "in_history": [B, H] bool, oldest first. Other inputs are not
        read.
        """
        vectors, known = inputs["history_vectors"], inputs["in_history"]
        # The age of an item is the number of known items after it.
        ages = known.long().flip(1).cumsum(1).flip(1) - 1
        weights = self.by_age[:, ages.clamp(min=0)].transpose(0, 1)
        weights = weights + self.by_content @ unit(vectors).transpose(1, 2)
        weights = torch.where(known.unsqueeze(1), weights, -1e9).softmax(-1)
        pooled = unit(weights @ torch.where(known.unsqueeze(-1), vectors, 0.0))
        turned = torch.einsum("btd,tde->bte", pooled, self.heads)
        added = self.narrow(torch.relu(self.widen(pooled.mean(1)))).view_as(turned)
        scaled = unit(turned + added) * self.log_scale.exp()[:, None]
        return torch.where(known.any(1)[:, None, None], with_means(scaled, self.untaught), 0.0)

    def teach(self, tasks: Collection[int]) -> None:
        """Removes tasks from `untaught`, and starts each from the mean of the taught tasks' parameters."""
        new = [task for task in self.untaught if task in tasks]
        taught = [task for task in range(len(self.heads)) if task not in self.untaught]
        if new and taught:
            shape = self.heads.shape[:2]
            of_tasks: list[Tensor] = [self.by_age, self.by_content, self.heads, self.log_scale]
            of_tasks += [self.narrow.weight.view(*shape, -1), self.narrow.bias.view(shape)]
            with torch.no_grad():
                for weights in of_tasks:
                    weights[new] = weights[taught].mean(0)
        self.untaught = tuple(task for task in self.untaught if task not in tasks)


class ItemTower(nn.Module):
    """A vector for each item: a row of its own plus the mean embedding of each field's values.

    Rows start as the given vectors, embeddings of fields at zero.
    """

    ids: Tensor
    weights: Tensor

    def __init__(self, vectors: Float32s, features: ItemFeatures) -> None:
        super().__init__()
        self.items = nn.Parameter(torch.from_numpy(vectors.copy()))
        self.fields = nn.Parameter(torch.zeros(features.size, vectors.shape[1]))
        self.register_buffer("ids", torch.from_numpy(features.ids), persistent=False)
        self.register_buffer("weights", torch.from_numpy(features.weights), persistent=False)

    def forward(self, places: Tensor) -> Tensor:
        """[n, D] float32. places: [n] int64 - rows of the catalog."""
        own = functional.embedding(places, self.items)
        if self.ids.shape[1] == 0:
            return own
        of_fields: Tensor = functional.embedding_bag(
            self.ids[places], self.fields, mode="sum", per_sample_weights=self.weights[places]
        )
        return own + of_fields


class Towers(nn.Module):
    """Both towers, trained together; the user tower reads the item tower's vectors."""

    def __init__(self, user: UserTower, item: ItemTower) -> None:
        super().__init__()
        self.user, self.item = user, item

    @classmethod
    def start(cls, vectors: Float32s, features: ItemFeatures, tasks: int, seed: int) -> Self:
        """Untrained towers. vectors: [N, D] float32, of a mean length about 1."""
        generator = torch.Generator().manual_seed(seed)
        return cls(UserTower(tasks, vectors.shape[1], generator), ItemTower(vectors, features))

    def item_vectors(self, at_once: int = 65_536) -> Tensor:
        """[N, D] float32, without gradients."""
        places = torch.arange(len(self.item.items), device=self.item.items.device)
        with torch.no_grad():
            return torch.cat([self.item(part) for part in torch.split(places, at_once)])


def with_means(of_tasks: Tensor, untaught: Collection[int]) -> Tensor:
    """[B, T, ...] with the mean of taught tasks in place of each untaught one; unchanged where no task is taught."""
    parts = of_tasks.unbind(1)
    taught = [part for task, part in enumerate(parts) if task not in untaught]
    if not taught or len(taught) == len(parts):
        return of_tasks
    mean = torch.stack(taught).mean(0)
    return torch.stack([mean if task in untaught else part for task, part in enumerate(parts)], 1)


def unit(vectors: Tensor) -> Tensor:
    """Vectors scaled to length 1; zeros stay zeros."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths.clamp(min=1e-12)


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A layer with initial weights from the given generator."""
    layer = nn.Linear(inputs, outputs)
    bound = 1.0 / math.sqrt(inputs)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer with initial weights and biases of zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
