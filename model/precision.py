"""The choice between float32 and int8 for an OverArch's linear layers at build, measured on users of the data.

The users' latest interactions are held out, and both precisions answer each user. int8 is chosen where its best results
are nearly the same as float32's and contain the held-out items as often.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from meshfold.kernels.filter.steps import FilterBatch
from meshfold.model.batch import QueryBatch, Results, UserBatch
from meshfold.model.config import Precision, PrecisionChoice
from meshfold.model.data.catalog import Catalog
from meshfold.model.data.interactions import Interactions
from meshfold.model.errors import InvalidData
from meshfold.model.inputs import HISTORY, PAD, encode_inputs
from meshfold.model.progress import Progress, silent
from meshfold.model.ranking import ProgramRanking
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import OVER_ARCH, Snapshot
from meshfold.model.train.examples import NOTHING
from meshfold.model.train.metrics import HeldOut, mean_over
from meshfold.model.train.parts import Parts
from meshfold.model.types import Int64s
from meshfold.model.value.formulas import padded

# Bounds of int8: the least share of float32's best results that it keeps, and the largest share of NDCG that it loses.
LEAST_KEPT, MOST_NDCG_LOSS = 0.99, 0.001
# Limit of compared results. A quarter of the candidates is a second limit, so that an answer is a selection.
MOST_RESULTS = 1000
NDCG_DEPTH = 100
# Held-out share of each user's interactions, the same as in training.
_HELD_OUT_SHARE = 0.2
_MOST_USERS, _USERS_AT_A_TIME = 512, 16


@dataclass(frozen=True, eq=False)
class SampleUsers:
    """A sample of U users of the data.

    histories: items of each user before the cut as places in the catalog, oldest first. held_out: items after the cut,
    for each task. item_ids: [N] int64 of the catalog. row_of_place: [N] int64.
    """

    histories: list[Int64s]
    held_out: list[HeldOut]
    item_ids: Int64s
    row_of_place: Int64s

    @classmethod
    def of(cls, catalog: Catalog, interactions: Interactions | None) -> Self | None:
        """The sample; None where no user has interacted with two items of the catalog."""
        if interactions is None or not len(interactions):
            return None
        try:
            parts = Parts(catalog, interactions, _HELD_OUT_SHARE)
            rows, cuts = parts.test()
        except InvalidData:
            return None
        step = -(-len(rows) // _MOST_USERS)
        rows, cuts = rows[::step], cuts[::step]
        return cls(
            [parts.known.first(int(row), int(cut)) for row, cut in zip(rows, cuts, strict=True)],
            parts.held_out(parts.everything, rows, cuts),
            catalog.item_ids,
            np.argsort(catalog.order(), kind="stable"),
        )


@dataclass(frozen=True)
class Compared:
    """The comparison of int8 with float32.

    kept: the share of float32's best `results` that are among int8's. ndcg_float32, ndcg_int8: NDCG of held-out items
    among all candidates in a task's order, the mean over users and tasks.
    """

    users: int
    results: int
    kept: float
    ndcg_float32: float
    ndcg_int8: float

    @property
    def ndcg_loss(self) -> float:
        """The share of float32's NDCG that int8 loses; negative for a gain."""
        return 1 - self.ndcg_int8 / self.ndcg_float32 if self.ndcg_float32 else 0.0

    @property
    def holds(self) -> bool:
        """Whether int8 meets both bounds."""
        return self.kept >= LEAST_KEPT and self.ndcg_loss <= MOST_NDCG_LOSS

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"ndcg_loss": self.ndcg_loss}


def choose(
    snapshot: Snapshot, setting: PrecisionChoice, users: SampleUsers | None, progress: Progress = silent
) -> tuple[Precision, dict[str, Any]]:
    """(precision of a snapshot's OverArch, facts of the choice; {} without an OverArch and for FLOAT32).

    users: None where the data has none; AUTO is then float32. Raises InvalidData where the setting is INT8 and the
    OverArch has no layers that can multiply in integers.
    """
    program = snapshot.program(OVER_ARCH)
    if program is None or setting is PrecisionChoice.FLOAT32:
        return Precision.FLOAT32, {}
    facts: dict[str, Any] = {"wanted": setting.value}
    if not program.use_integers():
        if setting is PrecisionChoice.INT8:
            raise InvalidData(
                "the OverArch has no linear layers over candidates, which alone run in integers; build with"
                " --precision float32"
            )
        return Precision.FLOAT32, facts | {"reason": "no linear layers over candidates"}
    if users is None:
        chosen = Precision.FLOAT32 if setting is PrecisionChoice.AUTO else Precision.INT8
        return chosen, facts | {"reason": "no users with held-out interactions to compare on"}
    compared = compare(snapshot, users, progress)
    facts |= compared.to_json()
    if setting is PrecisionChoice.AUTO and not compared.holds:
        return Precision.FLOAT32, facts
    return Precision.INT8, facts


def compare(snapshot: Snapshot, users: SampleUsers, progress: Progress = silent) -> Compared:
    """Compares both precisions of a snapshot's OverArch on the users. Both rank the same candidates."""
    model = RetrievalModel.of(snapshot)
    rankings = [_ranking(snapshot, precision) for precision in (Precision.FLOAT32, Precision.INT8)]
    positions: Int64s = snapshot.items["positions"].numpy()[users.row_of_place]
    place_of = np.argsort(positions)
    results = min(MOST_RESULTS, max(1, _candidates(snapshot) // 4))
    kept: list[float] = []
    orders: list[list[list[Int64s]]] = [[[] for _ in users.held_out] for _ in rankings]
    with torch.inference_mode():
        for done, batch in _batches(snapshot, users, positions):
            progress("comparing precisions", done, len(users.histories))
            answers = []
            for ranking, by_task in zip(rankings, orders, strict=True):
                model.ranking = ranking
                answer = model(batch)
                answers.append(answer.positions[:, :results].numpy())
                for task, of_task in enumerate(by_task):
                    of_task.append(_order(answer, task, place_of))
            kept += [_kept(exact, coded) for exact, coded in zip(*answers, strict=True)]
    progress("comparing precisions", len(users.histories), len(users.histories))
    exact, coded = (
        mean_over([np.concatenate(of_task) for of_task in by_task], users.held_out, "ndcg", NDCG_DEPTH)
        for by_task in orders
    )
    return Compared(len(kept), results, float(np.mean(kept)), exact, coded)


def _ranking(snapshot: Snapshot, precision: Precision) -> ProgramRanking:
    program = snapshot.program(OVER_ARCH)
    assert program is not None
    return ProgramRanking(program, precision)


def _kept(exact: Int64s, coded: Int64s) -> float:
    """The share of exact results that are in `coded`. exact, coded: [K] int64 - positions, -1 after the last."""
    real = exact[exact >= 0]
    return float(np.isin(real, coded).mean()) if len(real) else 1.0


def _order(answer: Results, task: int, place_of: Int64s) -> Int64s:
    """[B, NDCG_DEPTH] int64: places of the candidates by a task's score, NOTHING after the last."""
    scores = answer.task_scores[:, :, task].masked_fill(answer.positions < 0, -torch.inf)
    best = torch.argsort(scores, dim=1, descending=True, stable=True)[:, :NDCG_DEPTH]
    found = answer.positions.gather(1, best).numpy()
    short = np.full((len(found), NDCG_DEPTH - found.shape[1]), -1)
    found = np.concatenate([found, short], 1)
    return np.where(found >= 0, place_of[found], NOTHING)


def _candidates(snapshot: Snapshot) -> int:
    """The number of candidates of a query on a CPU."""
    return min(snapshot.content.config.candidates_on("cpu"), snapshot.content.items)


def _batches(snapshot: Snapshot, users: SampleUsers, positions: Int64s) -> Iterator[tuple[int, QueryBatch]]:
    """Yields (users before the batch, the batch). Queries have a history alone and return all candidates."""
    candidates, value = _candidates(snapshot), snapshot.content.value.prepare("", {}, {})
    for start in range(0, len(users.histories), _USERS_AT_A_TIME):
        part = users.histories[start : start + _USERS_AT_A_TIME]
        count = len(part)
        met = [positions[places] for places in part]
        excluded = met if snapshot.schema.exclude_history else [places[:0] for places in met]
        steps, constants = padded([value] * count)
        yield (
            start,
            QueryBatch(
                users=_users(snapshot, part, met, users.item_ids),
                filters=replace(FilterBatch.everything(count), excluded=_padded(excluded, -1)),
                candidates=torch.full((count,), candidates),
                max_results=torch.full((count,), candidates),
                value_steps=torch.from_numpy(steps),
                value_constants=torch.from_numpy(constants),
                cap_field=torch.full((count,), -1),
                cap_limit=torch.zeros(count, dtype=torch.int64),
                explain=torch.zeros(count, dtype=torch.bool),
                most_candidates=candidates,
                capped=False,
            ),
        )


def _users(snapshot: Snapshot, places: list[Int64s], met: list[Int64s], item_ids: Int64s) -> UserBatch:
    schema, count = snapshot.schema, len(places)
    inputs = encode_inputs(schema.inputs, {})
    return UserBatch(
        query_vectors=torch.zeros(count, len(schema.tasks), snapshot.content.dimension),
        has_vector=torch.zeros(count, dtype=torch.bool),
        history_positions=_padded([own[-HISTORY:] for own in met], -1, HISTORY),
        history_ids=_padded([item_ids[own[-HISTORY:]] for own in places], PAD, HISTORY),
        inputs={name: torch.from_numpy(np.stack([given] * count)) for name, given in inputs.items()},
        has_input=torch.zeros(count, dtype=torch.bool),
    )


def _padded(arrays: list[npt.NDArray[np.int64]], filler: int, length: int = 0) -> Tensor:
    """[B, length] int64, filled up with `filler`. length: 0 for the longest array's."""
    out = np.full((len(arrays), length or max(map(len, arrays))), filler, np.int64)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(out)
