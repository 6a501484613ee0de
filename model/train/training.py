"""Training of a model: choose on a validation part, learn OverArch, fit, measure on the test part, write.

The test part, the latest interactions of each user, is never trained on, so that the measured model is the published
one. The rest is split once more in time, into an earlier part and a validation part. Towers trained on the earlier part
give the number of steps, and candidates for OverArch from users whose validation part they have not seen. The published
towers are trained on the whole rest for that number of steps. They start from its factorization, rotated towards that
of the earlier part, so that OverArch fits their vectors, too.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meshfold.model.data.catalog import Catalog
from meshfold.model.data.interactions import Interactions
from meshfold.model.data.source import Source
from meshfold.model.errors import InvalidConfig, InvalidData
from meshfold.model.exports import export_item_tower, export_over_arch, export_user_tower
from meshfold.model.progress import Progress, silent
from meshfold.model.release import own_version
from meshfold.model.snapshot import ITEM_TOWER, OVER_ARCH, USER_TOWER
from meshfold.model.train.baselines import baseline_rankings
from meshfold.model.train.candidates import CandidateLists, PublishedIndex
from meshfold.model.train.checkpoint import Checkpoints
from meshfold.model.train.config import OverArchKind, TrainConfig
from meshfold.model.train.features import ItemFeatures, features_of
from meshfold.model.train.field_tower import fit_field_tower, readable
from meshfold.model.train.loop import Best
from meshfold.model.train.metrics import Metrics, Quality, quality
from meshfold.model.train.model_folder import WEIGHTS, check_folder, write_folder
from meshfold.model.train.newcomers import part_of, with_model
from meshfold.model.train.over_arch import OverArch
from meshfold.model.train.over_arch_training import Labelled, OverArchTask, over_arch_rankings
from meshfold.model.train.parts import Parts
from meshfold.model.train.search import exact_rankings, newest, user_vectors
from meshfold.model.train.start import Start, packed_weights
from meshfold.model.train.tower_training import TowerTask, aligned, scaled
from meshfold.model.train.towers import Towers, UserTower
from meshfold.model.types import Float32s, Int64s
from meshfold.model.vectors import factorize

# Moments of a user's validation part at which candidates are searched for OverArch, at even distances.
_MOMENTS = 3


def train(
    source: Source,
    out: Path,
    config: TrainConfig,
    progress: Progress = silent,
    start: Path | None = None,
) -> Metrics:
    """Trains a model and writes its folder.

    The folder holds vectors.parquet, user_tower.pt2, item_tower.pt2 where items have fields, over_arch.pt2,
    weights.safetensors and metrics.json. start: a model folder to continue from. After a kill the same call continues
    from the last checkpoint and ends with the same bytes on one machine. Checkpoints are kept in a hidden folder beside
    `out` until the model is written.

    Raises InvalidData where the data has no interactions to learn from or `start` was trained for another schema,
    InvalidConfig where there is no such device or another process trains there.
    """
    check_folder(out)
    begun = None if start is None else Start.read(start, source.schema)
    config = config if begun is None else begun.configured(config)
    device = _device(config.device)
    progress("reading", 0, 1)
    catalog, interactions = source.catalog(), source.interactions()
    if interactions is None or len(interactions) == 0:
        raise InvalidData(
            f"surface {catalog.schema.surface} has no interactions to train on; add [interactions]"
        )
    progress("reading", 1, 1)
    fingerprint = _fingerprint(catalog, interactions, config, device, begun)
    saved = Checkpoints.open(out.with_name(f".{out.name}.training"), fingerprint)
    try:
        with _deterministic(device, config.threads):
            training = _Training(catalog, interactions, config, device, saved, progress)
            metrics = training.run(out, training.learn() if begun is None else training.go_on(begun))
        saved.remove()
    finally:
        saved.close()
    return metrics


@dataclass(frozen=True, eq=False)
class Learned:
    """The result of a training before it is measured.

    vectors: [N, D] float32, in the order of the catalog. over_arch: None where there is none. summary: steps and
    validation figures, for metrics.json. begun: the user tower and vectors of the model that the training continued
    from.
    """

    user: UserTower
    vectors: Float32s
    over_arch: OverArch | None
    summary: Mapping[str, Any]
    begun: tuple[UserTower, Float32s] | None = None


class _Training:
    """One training: the parts of the data, and the stages."""

    def __init__(
        self,
        catalog: Catalog,
        interactions: Interactions,
        config: TrainConfig,
        device: torch.device,
        saved: Checkpoints,
        progress: Progress,
    ) -> None:
        # Items in the order of ids, so that ties to the smaller place are ties to the smaller id.
        self._catalog = part_of(catalog, catalog.order())
        self._config, self._device = config, device
        self._saved, self._progress = saved, progress
        self._parts = Parts(self._catalog, interactions, config.held_out)
        self._tasks = len(catalog.schema.tasks)

    def learn(self) -> Learned:
        """Trains from interactions alone."""
        config = self._config
        features = features_of(self._catalog)
        start = scaled(factorize(self._parts.earliest, self._catalog.item_ids, config.dimension, config.seed))
        chosen, best = self._choose(start, features)
        over_arch, best_over_arch = None, None
        if config.over_arch is not OverArchKind.NONE:
            over_arch, best_over_arch = self._learn_over_arch(chosen)
        towers = self._fit(start, features, best.step)
        summary = {
            "towers": {"steps": best.step, "validation_recall@50": best.value},
            "over_arch": best_over_arch
            and {"steps": best_over_arch.step, "validation_ndcg@50": best_over_arch.value},
        }
        return Learned(towers.user, towers.item_vectors().cpu().numpy(), over_arch, summary)

    def go_on(self, start: Start) -> Learned:
        """Continues from a model."""
        # Vectors of newcomers come from interactions before the test part alone.
        joined = with_model(self._catalog, self._parts.earlier, start.folder)
        vectors: Float32s = np.concatenate(list(joined.catalog.vectors()))
        towers = Towers.start(vectors, features_of(self._catalog), self._tasks, self._config.seed)
        start.load_user_tower(towers.user)
        begun = (copy.deepcopy(towers.user), vectors)
        nobody = np.empty(0, np.int64)
        task = TowerTask(self._parts, self._parts.known, nobody, self._config, self._device)
        towers, best = task.train(towers, self._config.steps, False, "fit", self._saved, self._progress)
        summary = {
            "from": start.digest,
            "newcomers": joined.newcomers,
            "left": joined.left,
            "towers": {"steps": best.step, "validation_recall@50": None},
        }
        over_arch = start.over_arch(self._tasks, self._device)
        return Learned(towers.user, towers.item_vectors().cpu().numpy(), over_arch, summary, begun)

    def run(self, out: Path, learned: Learned) -> Metrics:
        """Measures the result on the test part and writes the model folder."""
        rankings, users, already_met, regularization = self._measure(learned)
        summary = {"config": self._config.to_json(), **self._parts.facts, **learned.summary}
        summary["already_met"] = already_met
        summary["untaught"] = [self._catalog.schema.tasks[task] for task in learned.user.untaught]
        summary["ease"] = regularization and {"regularization": regularization}
        metrics = Metrics(rankings=rankings, users=users, training=summary)
        schema, dimension = self._catalog.schema, learned.vectors.shape[1]
        user, over_arch = learned.user.cpu(), learned.over_arch and learned.over_arch.cpu()
        files = {
            USER_TOWER: export_user_tower(user, schema, dimension),
            WEIGHTS: packed_weights(schema, user, over_arch),
        }
        if over_arch is not None:
            files[OVER_ARCH] = export_over_arch(over_arch, schema, dimension)
        if readable(schema):
            tower = fit_field_tower(self._catalog, learned.vectors, self._met())
            files[ITEM_TOWER] = export_item_tower(tower, self._catalog)
        write_folder(out, self._saved.folder / "model", self._catalog.ids, learned.vectors, files, metrics)
        return metrics

    def _met(self) -> Int64s:
        """[N] int64 - number of interactions of each item before the test part."""
        return np.bincount(self._parts.known.places, minlength=self._parts.items)

    def _choose(self, start: Float32s, features: ItemFeatures) -> tuple[Towers, Best]:
        """Towers trained on the part before validation, at the step with the best validation."""
        rows, cuts = self._parts.validation()
        task = TowerTask(self._parts, self._parts.learned, rows, self._config, self._device)
        towers = Towers.start(start, features, self._tasks, self._config.seed)
        return task.train(towers, self._config.steps, len(rows) > 0, "choose", self._saved, self._progress)

    def _fit(self, start: Float32s, features: ItemFeatures, steps: int) -> Towers:
        """Towers trained on everything before the test part, for `steps` steps."""
        whole = factorize(self._parts.earlier, self._catalog.item_ids, start.shape[1], self._config.seed)
        towers = Towers.start(aligned(scaled(whole), start), features, self._tasks, self._config.seed)
        nobody = np.empty(0, np.int64)
        task = TowerTask(self._parts, self._parts.known, nobody, self._config, self._device)
        return task.train(towers, steps, False, "fit", self._saved, self._progress)[0]

    def _learn_over_arch(self, towers: Towers) -> tuple[OverArch, Best]:
        """Trains an OverArch on candidates from an index of these towers, at _MOMENTS of the validation part."""
        vectors: Float32s = towers.item_vectors().cpu().numpy()
        index = self._index(vectors)
        rows, cuts = self._parts.validation()
        if len(rows) < 2:
            raise InvalidData(
                f"OverArch learns from two or more users with three interactions each; the data has {len(rows)};"
                " train without it: --over-arch none"
            )
        half = np.random.default_rng([self._config.seed, len(rows)]).permutation(len(rows)) % 2
        ahead = self._parts.known.lengths[rows] - cuts
        moments = np.linspace(0.0, 1.0, _MOMENTS, endpoint=False)
        later = np.concatenate([cuts + np.floor(ahead * share).astype(np.int64) for share in moments])
        users = np.tile(rows, _MOMENTS)
        lists = index.candidates(
            towers.user, self._parts.known, users, later, self._config.candidates, self._parts.exclude,
            self._progress, "candidates",
        )  # fmt: skip
        # Validation takes the first moment alone, where histories are the ones that the towers learned from.
        judged = [np.flatnonzero(half != fold) for fold in (0, 1)]
        task = OverArchTask(
            index,
            self._labelled(lists, users, later),
            np.tile(half, _MOMENTS),
            [self._labelled(lists.of(chosen), rows[chosen], cuts[chosen]) for chosen in judged],
            self._config,
            self._device,
        )
        return task.train(self._saved, self._progress)

    def _labelled(self, lists: CandidateLists, rows: Int64s, cuts: Int64s) -> Labelled:
        return Labelled.of(lists, self._parts.held_out(self._parts.known, rows, cuts))

    def _measure(
        self, learned: Learned
    ) -> tuple[dict[str, dict[str, Quality | None]], dict[str, int], dict[str, int], float | None]:
        """Measures on the test part: (qualities by ranking and task; by task, users with held-out items; by task,
        held-out items that results leave out because the user had met them; EASE's regularization)."""
        rows, cuts = self._parts.test()
        tower, vectors, over_arch = learned.user, learned.vectors, learned.over_arch
        rankings, regularization = baseline_rankings(self._parts, rows)
        ways = {"towers, exact": (tower, vectors)}
        if learned.begun is not None:
            ways = {"start, exact": learned.begun, **ways}
        for name, (of_users, of_items) in ways.items():
            rankings[name] = self._exact(of_users.to(self._device), of_items, rows)
        index = self._index(vectors)
        lists = index.candidates(
            tower, self._parts.known, rows, cuts, self._config.candidates, self._parts.exclude,
            self._progress, "testing",
        )  # fmt: skip
        rankings["towers, index"] = lists.found
        if over_arch is not None:
            rankings["over_arch, index"] = over_arch_rankings(over_arch, index, lists, self._device)
        held_out = self._parts.held_out(self._parts.everything, rows, cuts)
        names = self._catalog.schema.tasks
        qualities = {
            name: {
                task: quality(ranking, of_task)
                for task, ranking, of_task in zip(names, by_task, held_out, strict=True)
            }
            for name, by_task in rankings.items()
        }
        users_by_task = {
            task: int((of_task.counts > 0).sum()) for task, of_task in zip(names, held_out, strict=True)
        }
        already_met = {task: of_task.already_met for task, of_task in zip(names, held_out, strict=True)}
        return qualities, users_by_task, already_met, regularization

    def _exact(self, tower: UserTower, vectors: Float32s, rows: Int64s) -> list[Int64s]:
        """For each task [U, K] int64 - results of exact search for users' histories before the test part."""
        items = torch.from_numpy(vectors).to(self._device)
        users = user_vectors(tower, newest(self._parts.known, rows), lambda p: items[p], self._device)
        return exact_rankings(users, items, self._parts.known, rows, self._parts.exclude)

    def _index(self, vectors: Float32s) -> PublishedIndex:
        folder = self._saved.folder / "store"
        shutil.rmtree(folder, ignore_errors=True)
        return PublishedIndex.publish(self._catalog, vectors, folder, self._device, silent)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InvalidConfig(f"device {name}: this machine or torch build has no CUDA device; use cpu or auto")
    return torch.device(name)


@contextmanager
def _deterministic(device: torch.device, threads: int) -> Iterator[None]:
    """Restricts torch to deterministic operations and to `threads` threads."""
    if device.type == "cuda":
        # cuBLAS reads the variable when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, threads_before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads_before)


def _fingerprint(
    catalog: Catalog,
    interactions: Interactions,
    config: TrainConfig,
    device: torch.device,
    start: Start | None,
) -> str:
    """The hash of data, settings and versions; a checkpoint of another hash is not continued."""
    digest = hashlib.sha256()
    facts = [config.to_json(), catalog.schema.to_json(), str(device), torch.__version__, own_version()]
    facts.append(start.digest if start else "")
    digest.update(json.dumps(facts, sort_keys=True).encode())
    arrays = [catalog.item_ids, interactions.user_ids, interactions.item_ids, interactions.times]
    for column in catalog.columns.values():
        arrays += [column.offsets, column.values]
        digest.update(json.dumps(column.vocabulary).encode())
    for texts in catalog.texts.values():
        digest.update(json.dumps(list(texts)).encode())
    for array in [*arrays, *interactions.tasks.values()]:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
