from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from meshfold.model.build import publish
from meshfold.model.config import IndexConfig, Precision
from meshfold.model.data.catalog import Catalog
from meshfold.model.data.interactions import Interactions
from meshfold.model.data.request_features import RequestFeatures
from meshfold.model.data.table_column import TableColumn
from meshfold.model.errors import InvalidConfig, InvalidData
from meshfold.model.exports import export_over_arch, export_user_tower
from meshfold.model.schema import Input, InputKind, Schema
from meshfold.model.snapshot import OVER_ARCH, USER_TOWER, Snapshot
from meshfold.model.store import Store
from meshfold.model.train.metrics import Quality
from meshfold.model.types import Float32s, Query
from meshfold.service.runner import Runner
from meshfold.tools.evaluation import EXACT, INDEX, Measured, Variant, evaluate, variants

N, D, USERS = 2000, 8, 30
TASKS = ("like", "watch")
SCHEMA = Schema("shop", (), TASKS)
IDS = np.arange(N, dtype=np.int64) * 3 + 7
FARTHEST, NEAREST = Variant(INDEX, "over_arch", 400), Variant(INDEX, "similarity", 400)


class Reversed(nn.Module):
    """For `like` the farthest candidate first; for `watch` the nearest."""

    def forward(self, user_vectors: Tensor, item_vectors: Tensor, similarities: Tensor) -> Tensor:
        return similarities * torch.tensor([-1.0, 1.0])[:, None]


@pytest.fixture(scope="module")
def vectors() -> Float32s:
    return np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)


@pytest.fixture(scope="module")
def snapshot(vectors: Float32s, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    catalog = Catalog(SCHEMA, IDS, {}, lambda: iter([vectors]), D)
    folder = publish(
        catalog,
        Store(tmp_path_factory.mktemp("store")),
        IndexConfig(clusters=100),
        programs={OVER_ARCH: export_over_arch(Reversed(), SCHEMA, D)},
    )
    opened = Snapshot.open(folder)
    # So small a catalog is always scored whole; with this, two items for each candidate are.
    return replace(opened, content=replace(opened.content, scan_budget=100))


@pytest.fixture(scope="module")
def interactions(vectors: Float32s) -> Interactions:
    """Each user meets an item and its four nearest, the nearest last; a fifth of the five is held out."""
    users, items = [], []
    for user in range(USERS):
        near = np.argsort(-(vectors @ vectors[user]), kind="stable")
        near = near[near != user][:4]
        users += [user] * 5
        items += [user, *near[::-1].tolist()]
    m = len(users)
    return Interactions(
        np.array(users),
        IDS[np.array(items)],
        np.tile(np.arange(5), USERS),
        {"like": np.ones(m, bool), "watch": np.arange(m) % 2 == 0},
    )


def measured_of(rows: list[Measured], task: str, variant: Variant) -> Measured:
    (row,) = (row for row in rows if (row.task, row.variant) == (task, variant))
    return row


def quality_of(rows: list[Measured], task: str, variant: Variant) -> Quality:
    quality = measured_of(rows, task, variant).quality
    assert quality is not None
    return quality


@pytest.fixture(scope="module")
def rows(snapshot: Snapshot, interactions: Interactions) -> list[Measured]:
    return evaluate(snapshot, interactions, (400, 5000), 1000)


def test_every_way_is_measured_once(rows: list[Measured]) -> None:
    told = [(r.task, r.variant.search, r.variant.ranking, r.variant.candidates) for r in rows]
    assert len(set(told)) == len(told) == 2 * 2 * 2 * 2
    # More than there are items are all of them.
    assert {candidates for *_, candidates in told} == {400, N}
    assert all(r.users == (USERS if r.task == "like" else USERS // 2) for r in rows)
    assert all(r.p50_ms and r.p95_ms and 0 < r.p50_ms <= r.p95_ms for r in rows)


def test_what_is_held_out_is_found_by_exact_search(rows: list[Measured], vectors: Float32s) -> None:
    """The nearest item to the first of the history is near the mean of the history too: counted by hand."""
    places = []
    for user in range(USERS):
        near = np.argsort(-(vectors @ vectors[user]), kind="stable")
        near = near[near != user][:4]
        met = np.append(user, near[1:])
        scores = vectors @ vectors[met].mean(0)
        scores[met] = -np.inf
        places.append(int((scores > scores[near[0]]).sum()))
    expected = np.array(places)
    row = quality_of(rows, "like", Variant(EXACT, "similarity", N))
    for depth in (20, 50, 100):
        assert row.recall[depth] == pytest.approx((expected < depth).mean(), abs=0.04)
        gained = np.where(expected < depth, 1 / np.log2(expected + 2.0), 0.0)
        assert row.ndcg[depth] == pytest.approx(gained.mean(), abs=0.02)
    assert row.recall[20] > 0.8


def test_the_over_arch_orders_each_task_by_its_own_scores(rows: list[Measured]) -> None:
    assert quality_of(rows, "like", NEAREST).recall[100] > 0.8
    assert quality_of(rows, "like", FARTHEST).recall[100] == 0.0
    assert measured_of(rows, "watch", NEAREST).quality == measured_of(rows, "watch", FARTHEST).quality


def test_variants_answer_as_they_are_named(snapshot: Snapshot) -> None:
    exact = Variant(EXACT, "similarity", 300).of(snapshot)
    assert (exact.content.scan_budget, exact.content.config.candidates) == (N, 300)
    assert exact.program(OVER_ARCH) is None
    through_index = Variant(INDEX, "over_arch", 300).of(snapshot)
    assert through_index.content.scan_budget == snapshot.content.scan_budget < N
    assert through_index.program(OVER_ARCH) is not None


def test_the_index_scores_fewer_items_and_exact_search_all(
    snapshot: Snapshot, interactions: Interactions
) -> None:
    query = Query("shop", 100, history=interactions.history(3), task_weights={"like": 1.0}, explain=True)
    for search, scored in ((INDEX, range(800, 1200)), (EXACT, range(N - 5, N - 4))):
        runner = Runner(Variant(search, "similarity", 400).of(snapshot), "cpu")
        (answer,) = runner.run([runner.prepare(query)])
        assert int(answer.explain["like.items_scored"]) in scored


def test_users_are_taken_evenly(snapshot: Snapshot, interactions: Interactions) -> None:
    assert {row.users for row in evaluate(snapshot, interactions, (400,), 7) if row.task == "like"} == {7}


def test_without_an_over_arch_there_is_one_ranking(snapshot: Snapshot) -> None:
    content = snapshot.content
    files = {name: mark for name, mark in content.files.items() if name != OVER_ARCH}
    plain = replace(snapshot, content=replace(content, files=files))
    assert [(v.search, v.ranking) for v in variants(plain, (400,))] == [
        (INDEX, "similarity"),
        (EXACT, "similarity"),
    ]


class Told(nn.Module):
    """What the request says in `wanted`, whatever the history is."""

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return inputs["wanted"].unsqueeze(1).expand(-1, len(TASKS), -1)


def test_queries_bring_the_features_of_the_first_interaction_that_is_held_out(
    vectors: Float32s, interactions: Interactions, tmp_path: Path
) -> None:
    schema = Schema("shop", (), TASKS, inputs=(Input("wanted", InputKind.FLOATS, D),))
    catalog = Catalog(schema, IDS, {}, lambda: iter([vectors]), D)
    programs = {USER_TOWER: export_user_tower(Told(), schema, D)}
    told = Snapshot.open(publish(catalog, Store(tmp_path), programs=programs))
    # Rows of a table that is in another order than the interactions are held in.
    rows = np.random.default_rng(0).permutation(len(interactions))
    shuffled = replace(interactions, rows=rows)
    wanted = np.empty((len(rows), D), np.float32)
    wanted[rows] = vectors[np.searchsorted(IDS, interactions.item_ids)] * 4
    column = TableColumn(
        "wanted", pa.chunked_array([wanted.tolist()]), ((tmp_path, len(rows)),), from_text=False
    )
    features = RequestFeatures.of(schema.inputs, {"wanted": column})
    way = Variant(EXACT, "similarity", N)
    assert quality_of(evaluate(told, shuffled, (N,), 30, features=features), "like", way).recall[20] == 1.0
    assert quality_of(evaluate(told, shuffled, (N,), 30), "like", way).recall[20] < 0.2


@pytest.mark.parametrize("candidates", [(), (124,), (1_000_001,), (400,) * 17])
def test_numbers_of_candidates_have_bounds(snapshot: Snapshot, candidates: tuple[int, ...]) -> None:
    with pytest.raises(InvalidConfig, match="candidates must"):
        variants(snapshot, candidates)


def test_no_users_is_refused(snapshot: Snapshot, interactions: Interactions) -> None:
    with pytest.raises(InvalidConfig, match="users must be at least 1, got 0"):
        evaluate(snapshot, interactions, (400,), 0)


def test_data_that_does_not_fit_is_refused(snapshot: Snapshot, interactions: Interactions) -> None:
    other = replace(interactions, tasks={"like": interactions.tasks["like"]})
    with pytest.raises(InvalidData, match="does not tell watch"):
        evaluate(snapshot, other, (400,), 10)
    unknown = replace(interactions, item_ids=interactions.item_ids + 1)
    with pytest.raises(InvalidData, match="no user has interactions with two items of the snapshot"):
        evaluate(snapshot, unknown, (400,), 10)


def test_the_snapshot_is_left_as_it_was(snapshot: Snapshot, interactions: Interactions) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in Path(snapshot.folder).iterdir())
    evaluate(snapshot, interactions, (400,), 1)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in Path(snapshot.folder).iterdir()) == before


def test_similarities_rank_a_snapshot_of_integers_too(snapshot: Snapshot) -> None:
    content = replace(snapshot.content, precision=Precision.INT8)
    changed = Variant(INDEX, "similarity", 300).of(replace(snapshot, content=content)).content
    assert changed.precision is Precision.FLOAT32
    assert OVER_ARCH not in changed.files
