"""OverArch: task scores of candidates from user, item and both together (an MLP or a mixture of logits).

Both kinds start as the similarity of each task and learn a term to add, so that training begins at the order of the
index. Scores are probabilities: `slope` and `offset` are fitted last (calibration.py) and do not change a task's order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from meshfold.model.train.config import OverArchKind
from meshfold.model.train.towers import linear, unit, with_means, zero_linear

# Dropout rate of the MLP's inputs and hidden values in training.
DROPOUT = 0.2


class OverArch(nn.Module):
    """Base class of both kinds: similarity plus the term of a subclass, as a probability.

    slope, offset: [T] float32. untaught: tasks without training data; their score is the mean of the others', so that
    it changes no order.
    """

    slope: Tensor
    offset: Tensor
    untaught: tuple[int, ...] = ()

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.log_gain = nn.Parameter(torch.zeros(tasks))
        self.register_buffer("slope", torch.ones(tasks))
        self.register_buffer("offset", torch.zeros(tasks))

    def forward(self, user_vectors: Tensor, item_vectors: Tensor, similarities: Tensor) -> Tensor:
        """Scores: [B, T, M] float32 in 0 to 1.

        user_vectors: [B, T, D]. item_vectors: [B, M, D]. similarities: [B, T, M]. All float32.
        """
        logits = self.logits(user_vectors, item_vectors, similarities)
        scores = torch.sigmoid(self.slope[:, None] * logits + self.offset[:, None])
        return with_means(scores, self.untaught)

    def logits(self, user_vectors: Tensor, item_vectors: Tensor, similarities: Tensor) -> Tensor:
        """[B, T, M] float32 - scores before calibration, in the same order for each task."""
        added = self.added(user_vectors, item_vectors, similarities)
        return self.log_gain.exp()[:, None] * similarities + added

    def added(self, user_vectors: Tensor, item_vectors: Tensor, similarities: Tensor) -> Tensor:
        """[B, T, M] float32 - the subclass's term."""
        raise NotImplementedError


class MlpOverArch(OverArch):
    """An MLP over the user's vectors, the item's, their elementwise products and the similarities.

    The first layer is split by input, so that the user's part is computed once for all candidates.
    """

    def __init__(self, tasks: int, dimension: int, hidden: Sequence[int], generator: torch.Generator) -> None:
        super().__init__(tasks)
        first = hidden[0]
        self.of_user = linear(tasks * dimension, first, generator)
        self.of_item = linear(dimension, first, generator)
        self.of_products = linear(tasks * dimension, first, generator)
        self.of_similarities = linear(tasks, first, generator)
        pairs = zip(hidden, hidden[1:], strict=False)
        self.inner = nn.ModuleList(linear(a, b, generator) for a, b in pairs)
        self.last = zero_linear(hidden[-1], tasks)
        # Times this, the elements of a unit vector are about 1 at any dimension.
        self._root = math.sqrt(dimension)

    def added(self, user_vectors: Tensor, item_vectors: Tensor, similarities: Tensor) -> Tensor:
        users = unit(user_vectors) * self._root
        first = self._of_each if self.training else self._of_all
        x = first(users, item_vectors, similarities.transpose(1, 2))
        for layer in self.inner:
            x = layer(self._dropped(torch.relu(x)))
        added: Tensor = self.last(self._dropped(torch.relu(x)))
        return added.transpose(1, 2)

    def _of_each(self, users: Tensor, items: Tensor, similarities: Tensor) -> Tensor:
        """[B, M, hidden]: the first layer in training, with dropout of each candidate's inputs."""
        items = items * self._root
        products = (users.unsqueeze(1) * items.unsqueeze(2)).flatten(2)
        out: Tensor = (
            self.of_user(self._dropped(users.flatten(1))).unsqueeze(1)
            + self.of_item(self._dropped(items))
            + self.of_products(self._dropped(products))
            + self.of_similarities(similarities)
        )
        return out

    def _of_all(self, users: Tensor, items: Tensor, similarities: Tensor) -> Tensor:
        """The first layer without dropout, as one product over all candidates.

        [W, P] (x, u * x) = (W + P u) x, so that the user enters the weights once. This leaves a half to a quarter of
        the multiplications. Terms of weights alone are combined first; an exported program computes them once.
        """
        t, d = users.shape[1:]
        products = self.of_products.weight.view(-1, t, d) * self._root
        weights = (self.of_item.weight * self._root).unsqueeze(0)
        for task in range(t):
            weights = torch.addcmul(weights, products[:, task], users[:, task].unsqueeze(1))
        parts = (self.of_user, self.of_item, self.of_products, self.of_similarities)
        biases = functional.linear(
            users.flatten(1), self.of_user.weight, torch.stack([part.bias for part in parts]).sum(0)
        )
        of_similarities = self.of_similarities.weight.expand(len(users), -1, -1)
        weights = torch.cat([weights, of_similarities], 2)
        inputs = torch.cat([items, similarities], 2)
        if len(users) == 1:
            # One user, as in serving: a plain layer.
            return functional.linear(inputs, weights.squeeze(0), biases.squeeze(0))
        return torch.baddbmm(biases.unsqueeze(1), inputs, weights.transpose(1, 2))

    def _dropped(self, x: Tensor) -> Tensor:
        # Exported programs contain no dropout.
        return functional.dropout(x, DROPOUT) if self.training else x


class MolOverArch(OverArch):
    """A mixture of logits: low-rank dot products, mixed by a gate of user, item and both.

    Zhai et al. 2023, "Revisiting Neural Retrieval on Accelerators" (arXiv:2306.04039), section 3: the sum
    over k of gate_k(user, item) * <f_k(user), g_k(item)>, where the gates are a softmax. A learned gain for each task,
    0 at first, scales the sum.
    """

    def __init__(
        self,
        tasks: int,
        dimension: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        logits: int = 8,
        rank: int = 16,
    ) -> None:
        super().__init__(tasks)
        self._shape = (logits, rank)
        self.users = linear(dimension, logits * rank, generator)
        self.items = linear(dimension, logits * rank, generator)
        self.gate_of_user = linear(dimension, logits, generator)
        self.gate_of_item = nn.Sequential(
            linear(dimension, hidden[-1], generator), nn.SiLU(), linear(hidden[-1], logits, generator)
        )
        self.gate_of_both = nn.Sequential(
            linear(logits, hidden[-1], generator), nn.SiLU(), linear(hidden[-1], logits, generator)
        )
        self.gain = nn.Parameter(torch.zeros(tasks))
        self._root = math.sqrt(dimension)

    def added(self, user_vectors: Tensor, item_vectors: Tensor, similarities: Tensor) -> Tensor:
        users, items = unit(user_vectors) * self._root, item_vectors * self._root
        left = unit(self.users(users).unflatten(-1, self._shape))
        right = unit(self.items(items).unflatten(-1, self._shape))
        # [B, T, M, K]: one dot product for each of the K pairs of components.
        dots = (left.transpose(1, 2) @ right.permute(0, 2, 3, 1)).permute(0, 2, 3, 1)
        gates = self.gate_of_user(users).unsqueeze(2) + self.gate_of_item(items).unsqueeze(1)
        gates = (gates + self.gate_of_both(dots)).softmax(-1)
        mixed: Tensor = self.gain[:, None] * (gates * dots).sum(-1)
        return mixed


def new_over_arch(
    kind: OverArchKind, tasks: int, dimension: int, hidden: Sequence[int], seed: int
) -> OverArch:
    """An untrained OverArch. kind: MLP or MOL."""
    generator = torch.Generator().manual_seed(seed)
    module = MlpOverArch if kind is OverArchKind.MLP else MolOverArch
    return module(tasks, dimension, hidden, generator)
