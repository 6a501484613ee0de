"""Evaluates a snapshot end to end: recall and NDCG against users' next interactions, and latency.

It compares ways to answer: by the index or exact search, by OverArch or similarity, with more or fewer candidates. Each
is the published snapshot with another setting and a runner of its own, in one process; runners take turns query by
query.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Self

import numpy as np

from meshfold.model.data.interactions import Interactions, places_of
from meshfold.model.data.request_features import RequestFeatures
from meshfold.model.errors import InvalidConfig, InvalidData
from meshfold.model.progress import Progress, silent
from meshfold.model.snapshot import OVER_ARCH, Snapshot
from meshfold.model.train.examples import NOTHING, Timelines
from meshfold.model.train.metrics import DEPTHS, FIGURES, HeldOut, Quality, quality
from meshfold.model.types import Float64s, Ids, Int64s, Query
from meshfold.model.value.config import ValueConfig
from meshfold.model.value.program import compile_formulas
from meshfold.service.runner import Runner

HELD_OUT_SHARE = 0.2
RESULTS = max(DEPTHS)
# Fewest candidates of a runner for RESULTS results.
LEAST_CANDIDATES = RESULTS + RESULTS // 4
MOST_CANDIDATES = 1_000_000
MOST_COUNTS = 16
INDEX, EXACT = "index", "exact"
OVER_ARCH_RANKING, SIMILARITY_RANKING = "over_arch", "similarity"


@dataclass(frozen=True)
class Variant:
    """A way to answer. search: INDEX or EXACT. ranking: OVER_ARCH_RANKING or SIMILARITY_RANKING."""

    search: str
    ranking: str
    candidates: int

    def of(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot, answering this way; its formulas give way to the sum of weighted task scores."""
        content = snapshot.content
        if self.ranking == SIMILARITY_RANKING:
            content = content.without_over_arch()
        changed = replace(
            content,
            config=replace(content.config, candidates=self.candidates),
            scan_budget=content.items if self.search == EXACT else content.scan_budget,
            value=compile_formulas(content.schema, ValueConfig()),
        )
        return replace(snapshot, content=changed)


@dataclass(frozen=True)
class Measured:
    """The measurement of one way to answer, for one task. users: number of users with held-out items; without any,
    nothing else is measured. already_met: held-out items in the users' histories, which results exclude. p50_ms,
    p95_ms: from a prepared query to its answer, batch 1."""

    task: str
    variant: Variant
    users: int
    already_met: int
    quality: Quality | None
    p50_ms: float | None
    p95_ms: float | None

    def to_json(self) -> dict[str, Any]:
        v = self.variant
        return {
            "task": self.task,
            "search": v.search,
            "ranking": v.ranking,
            "candidates": v.candidates,
            "users": self.users,
            "already_met": self.already_met,
            **(self.quality.to_json() if self.quality else dict.fromkeys(FIGURES)),
            "p50_ms": self.p50_ms,
            "p95_ms": self.p95_ms,
        }


@dataclass(frozen=True, eq=False)
class Histories:
    """Histories of U users before their held-out interactions, which are the latest share of each user's.

    queries: [U] - item ids, oldest first. held: for each task the held-out items, by rows of the snapshot. next_rows:
    [U] int64 - the first held-out row of each user in the table of interactions.
    """

    queries: list[Ids]
    held: Mapping[str, HeldOut]
    next_rows: Int64s

    @classmethod
    def split(cls, snapshot: Snapshot, interactions: Interactions, most: int) -> Self:
        """Splits interactions. most: most users, chosen evenly among those with interactions before and after the cut.

        Raises InvalidData where there is none, or where the data has other tasks than the snapshot.
        """
        schema, ids = snapshot.schema, snapshot.item_ids()
        item_ids = ids.keys()
        missing = set(schema.tasks) - set(interactions.tasks)
        if missing:
            raise InvalidData(
                f"the snapshot answers for {', '.join(schema.tasks)}; the data does not tell"
                f" {', '.join(sorted(missing))}: evaluate on the data that it was built from"
            )
        earlier, _ = interactions.split_latest(HELD_OUT_SHARE)
        everything = Timelines.of(interactions, item_ids, schema.tasks)
        cuts = everything.lengths_in(Timelines.of(earlier, item_ids, schema.tasks))
        rows = np.flatnonzero((cuts > 0) & (everything.lengths > cuts))
        if len(rows) == 0:
            raise InvalidData(
                "no user has interactions with two items of the snapshot; evaluation needs an earlier and a later one"
            )
        rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64)]
        cuts = cuts[rows]
        held = {
            task: HeldOut.after(everything, rows, cuts, place, len(item_ids), schema.exclude_history)
            for place, task in enumerate(schema.tasks)
        }
        histories = (places_of(earlier.history(user), item_ids) for user in everything.users[rows].tolist())
        met = interactions.where(places_of(interactions.item_ids, item_ids) >= 0)
        next_rows = met.rows[everything.offsets[rows] + cuts]
        return cls([ids.at(places[places >= 0]) for places in histories], held, next_rows)


def variants(snapshot: Snapshot, candidates: Sequence[int]) -> list[Variant]:
    """Every way to answer with these numbers of candidates; more than there are items count as all.

    Raises InvalidConfig for numbers out of bounds.
    """
    if not 1 <= len(candidates) <= MOST_COUNTS:
        raise InvalidConfig(f"candidates must be 1 to {MOST_COUNTS} numbers, got {len(candidates)}")
    for count in candidates:
        if not LEAST_CANDIDATES <= count <= MOST_CANDIDATES:
            raise InvalidConfig(
                f"candidates must lie in {LEAST_CANDIDATES} (a quarter more than the {RESULTS} results that are"
                f" measured) to {MOST_CANDIDATES}, got {count}"
            )
    counts = sorted({min(count, snapshot.content.items) for count in candidates})
    rankings = [SIMILARITY_RANKING]
    if OVER_ARCH in snapshot.content.files:
        rankings.insert(0, OVER_ARCH_RANKING)
    return [Variant(*parts) for parts in product((INDEX, EXACT), rankings, counts)]


def evaluate(
    snapshot: Snapshot,
    interactions: Interactions,
    candidates: Sequence[int],
    most_users: int,
    progress: Progress = silent,
    features: RequestFeatures | None = None,
) -> list[Measured]:
    """Measures every variant for each task, on at most most_users users.

    features: features of requests; a query has those of the user's first held-out interaction. Results of a task are
    ordered by its score alone. Raises InvalidConfig or InvalidData.
    """
    if most_users < 1:
        raise InvalidConfig(f"users must be at least 1, got {most_users}")
    ways = variants(snapshot, candidates)
    histories = Histories.split(snapshot, interactions, most_users)
    runners = [Runner(way.of(snapshot), "cpu") for way in ways]
    measured = []
    for task, held in histories.held.items():
        asked = np.flatnonzero(held.counts > 0)
        if len(asked) == 0:
            measured += [Measured(task, way, 0, held.already_met, None, None, None) for way in ways]
            continue
        queries = [
            Query(
                snapshot.schema.surface,
                RESULTS,
                history=histories.queries[user],
                features=features.at(int(histories.next_rows[user])) if features else {},
                task_weights={task: 1.0},
            )
            for user in asked.tolist()
        ]
        ranked = np.full((len(ways), len(held.counts), RESULTS), NOTHING, np.int64)
        ranked[:, asked], taken_s = _answered(runners, queries, snapshot, f"evaluating {task}", progress)
        for way, of_way, of_way_s in zip(ways, ranked, taken_s, strict=True):
            p50_ms, p95_ms = (np.quantile(of_way_s, (0.5, 0.95)) * 1e3).tolist()
            found = quality(of_way, held)
            measured.append(Measured(task, way, len(asked), held.already_met, found, p50_ms, p95_ms))
    return measured


def _answered(
    runners: Sequence[Runner], queries: Sequence[Query], snapshot: Snapshot, stage: str, progress: Progress
) -> tuple[Int64s, Float64s]:
    """(ranked: [V, Q, RESULTS] int64 - rows of items, NOTHING after the last; [V, Q] seconds that each answer took),
    of V runners and Q queries."""
    ids = snapshot.item_ids()
    ranked = np.full((len(runners), len(queries), RESULTS), NOTHING, np.int64)
    taken_s = np.zeros((len(runners), len(queries)))
    for runner in runners:
        # The first pass is slow, so it is not measured.
        runner.run([runner.prepare(queries[0])])
    for i, query in enumerate(queries):
        progress(stage, i, len(queries))
        # In rotating order, so that other load of the machine affects all equally.
        for way in np.roll(np.arange(len(runners)), -i).tolist():
            prepared = runners[way].prepare(query)
            start_s = time.perf_counter()
            (answer,) = runners[way].run([prepared])
            taken_s[way, i] = time.perf_counter() - start_s
            ranked[way, i, : len(answer.item_ids)] = ids.rows_of(answer.item_ids)
    progress(stage, len(queries), len(queries))
    return ranked, taken_s
