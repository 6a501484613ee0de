"""An interaction that no dot product can express, and an OverArch that recovers it.

Items and users are generated, with two attributes of each item and a trait of each user planted in dimensions of
their own. A user's right items are the nearest ones for which sign(item[A] * item[B]) is the sign of user[TRAIT]; of
items as near, half are wrong, and a dot product of user and item, to which these dimensions add nothing, cannot tell
which. An OverArch learns it from the candidates that the published index returns for other users, is published, and
answers for held-out users, end to end, beside the same snapshot without it.

    python -m benchmarks.planted --items 100000
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.arguments import arguments
from benchmarks.report import bench, written
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.model.build import publish
from meshfold.model.data.catalog import Catalog
from meshfold.model.data.generated import item_vectors, user_vectors
from meshfold.model.exports import export_over_arch
from meshfold.model.progress import Progress
from meshfold.model.schema import Schema
from meshfold.model.snapshot import OVER_ARCH
from meshfold.model.store import Store
from meshfold.model.train.config import OverArchKind
from meshfold.model.train.over_arch import OverArch, new_over_arch
from meshfold.model.types import QUERY_VECTOR, Candidates, Float32s, Int64s, Query
from meshfold.service.runner import Runner

# Dimensions that the planted interaction reads: signs of items in A and B, where users have 0; of users in TRAIT,
# where items have 0.
A, B, TRAIT = -3, -2, -1
ATTRIBUTE = 0.3  # size of an attribute; items are about 1 long
TRAIT_SHARE = 0.5  # of a trait, of the rest of the user's vector
RIGHT = 100  # right items of a user, and depth of recall
HELD_OUT_USERS = 200
HIDDEN = (64, 64)
BATCH_USERS = 64
LEARNED_RESULTS = 1024  # of the index, for each user learned from
# Candidates of a user that a step looks at: of the nearest, half of which are right, and of all.
SAMPLED_NEAREST, SAMPLED = 48, 16
LEARNING_RATE = 3e-3


def main() -> None:
    parser = arguments(__doc__, keep=True, items=100_000, dimension=32)
    parser.add_argument("--users", type=int, default=1000, help="that the OverArch learns from")
    parser.add_argument("--steps", type=int, default=600, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as work, console.progress() as progress:
        figures = measure(Path(work), args.items, args.dimension, args.users, args.steps, args.seed, progress)
    config = {name: getattr(args, name) for name in ("items", "dimension", "users", "steps", "seed")}
    row = Row("planted", "sign of two item dimensions against one of the user", config, figures)
    console.table(
        ["figure", ""],
        [[name, round(value, 4)] for name, value in figures.items()],
        f"{args.items:,} generated items x {args.dimension}, {HELD_OUT_USERS} held-out users, {row.device}",
    )
    written([row], args.keep)
    told = {name: round(figures[name], 4) for name in ("recall_with", "recall_without", "ratio")}
    bench({"name": "planted", "items": args.items, **told})


@dataclass(frozen=True, eq=False)
class Planted:
    """items: [N, D] float32, whose ids are their places. users: [U, D] float32."""

    items: Float32s
    users: Float32s

    @classmethod
    def draw(cls, items: int, dimension: int, users: int, seed: int) -> Self:
        of_items = np.concatenate(list(item_vectors(items, dimension, seed)))
        of_users = user_vectors(users, dimension, seed, items=items)
        random = np.random.default_rng(seed)
        of_items[:, [A, B]] = random.choice([-ATTRIBUTE, ATTRIBUTE], (items, 2))
        of_items[:, TRAIT] = of_users[:, A] = of_users[:, B] = of_users[:, TRAIT] = 0
        sizes = np.linalg.norm(of_users, axis=1) * TRAIT_SHARE
        of_users[:, TRAIT] = random.choice([-1, 1], users) * sizes
        return cls(of_items, of_users)

    def right(self, users: Float32s) -> Int64s:
        """[U, RIGHT] int64 - the nearest items whose sign is that of the user's trait. users: [U, D]."""
        signs = np.sign(self.items[:, A] * self.items[:, B])
        rows = []
        for user in users:
            similarity = np.where(signs == np.sign(user[TRAIT]), self.items @ user, -np.inf)
            rows.append(np.argpartition(-similarity, RIGHT)[:RIGHT])
        return np.stack(rows)

    def catalog(self) -> Catalog:
        n, dimension = self.items.shape
        schema = Schema("planted", (), ("watch",), generated=True)
        return Catalog(schema, np.arange(n), {}, lambda: iter([self.items]), dimension)


def measure(
    work: Path, items: int, dimension: int, users: int, steps: int, seed: int, progress: Progress
) -> dict[str, float]:
    """recall_with and recall_without the OverArch, their ratio, and seconds."""
    planted = Planted.draw(items, dimension, users + HELD_OUT_USERS, seed)
    learned_from, held_out = planted.users[:users], planted.users[users:]
    store, catalog = Store(work), planted.catalog()
    plain = Runner.open(publish(catalog, store, progress=progress), "planted")

    start_s = time.perf_counter()
    over_arch = learn(planted, plain, learned_from, steps, seed, progress)
    train_s = time.perf_counter() - start_s
    program = export_over_arch(Logits(over_arch), catalog.schema, dimension)
    with_program = publish(catalog, store, progress=progress, programs={OVER_ARCH: program})
    ranked = Runner.open(with_program, "planted")

    right = planted.right(held_out)
    with_it, without = recall(ranked, held_out, right), recall(plain, held_out, right)
    return {
        "recall_with": with_it,
        "recall_without": without,
        "ratio": with_it / without,
        "train_s": round(train_s, 1),
    }


class Logits(nn.Module):
    """An OverArch's scores before the sigmoid, which in float32 is 1 for all that are sure, whatever their order."""

    def __init__(self, over_arch: OverArch) -> None:
        super().__init__()
        self.over_arch = over_arch

    def forward(self, user_vectors: Tensor, item_vectors: Tensor, similarities: Tensor) -> Tensor:
        return self.over_arch.logits(user_vectors, item_vectors, similarities)


def learn(
    planted: Planted, runner: Runner, users: Float32s, steps: int, seed: int, progress: Progress
) -> OverArch:
    """On the candidates that the runner's index returns: -log softmax of a right one among the wrong ones."""
    answers = list(answers_of(runner, users, LEARNED_RESULTS))
    found = np.stack([answer.item_ids for answer in answers])
    similarities = torch.from_numpy(np.stack([answer.similarities for answer in answers]))
    labels = np.stack([np.isin(*pair) for pair in zip(found, planted.right(users), strict=True)])
    # Evaluation mode: with dropout, a parity of three signs takes far more steps.
    module = new_over_arch(OverArchKind.MLP, 1, users.shape[1], HIDDEN, seed).eval()
    optimizer = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    random = np.random.default_rng(seed)
    for step in range(steps):
        rows = random.integers(0, len(users), (BATCH_USERS, 1))
        nearest = random.integers(0, 2 * RIGHT, (BATCH_USERS, SAMPLED_NEAREST))
        at = np.concatenate([nearest, random.integers(0, LEARNED_RESULTS, (BATCH_USERS, SAMPLED))], 1)
        logits = module.logits(
            torch.from_numpy(users[rows]),
            torch.from_numpy(planted.items[found[rows, at]]),
            similarities[rows, at].unsqueeze(1),
        ).squeeze(1)
        optimizer.zero_grad()
        _loss(logits, torch.from_numpy(labels[rows, at])).backward()
        optimizer.step()
        schedule.step()
        progress("training", step + 1, steps)
    return module


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    wrong = torch.where(labels, -torch.inf, logits).logsumexp(1, keepdim=True)
    losses = torch.logaddexp(logits, wrong) - logits
    return losses[labels].mean()


def recall(runner: Runner, users: Float32s, right: Int64s) -> float:
    """Share of the users' right items among the first RIGHT of their answers."""
    answers = answers_of(runner, users, RIGHT)
    hits = [np.isin(answer.item_ids, row).sum() for answer, row in zip(answers, right, strict=True)]
    return float(np.sum(hits) / right.size)


def answers_of(runner: Runner, users: Float32s, results: int) -> Iterator[Candidates]:
    for user in users:
        query = Query("planted", results, features={QUERY_VECTOR: user})
        yield runner.run([runner.prepare(query)])[0]


if __name__ == "__main__":
    main()
