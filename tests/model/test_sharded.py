"""Answers of a snapshot on several devices, here all the CPU, beside those of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshfold.model.build import publish
from meshfold.model.config import IndexConfig, Merge
from meshfold.model.data.catalog import Catalog
from meshfold.model.data.generated import item_vectors, user_vectors
from meshfold.model.exports import export_over_arch
from meshfold.model.filter.expression import All, Expression, Match, Not, Range
from meshfold.model.snapshot import OVER_ARCH, Snapshot
from meshfold.model.store import Store
from meshfold.model.train.config import OverArchKind
from meshfold.model.train.over_arch import new_over_arch
from meshfold.model.types import (
    QUERY_VECTOR,
    EmbedQuery,
    MaxPerValue,
    Query,
    ScoreQuery,
    SearchQuery,
    User,
)
from meshfold.service.runner import Runner

CatalogOf = Callable[..., Catalog]
N, D = 3000, 16
NARROW = All((Match("tags", strings=("t7", "t20")), Not(Match("language", strings=("l1",)))))
FILTERS: dict[str, Expression | None] = {
    "none": None,
    "half": Range("year", minimum=50, inclusive=True),
    "few": NARROW,
    "hardly any": All((NARROW, Match("groups", ints=(-3,)))),
    "no item": Match("language", strings=("nowhere",)),
}


@pytest.fixture(scope="module")
def snapshot(catalog_of: CatalogOf, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Items of which every fourth has the vector of another, a query scores 400 of them, and an OverArch ranks."""
    vectors = np.concatenate(list(item_vectors(N, D)))
    vectors[3::4] = vectors[::4][: len(vectors[3::4])][::-1]
    catalog = catalog_of(vectors)
    over_arch = new_over_arch(OverArchKind.MLP, 2, D, (16,), 0).eval()
    programs = {OVER_ARCH: export_over_arch(over_arch, catalog.schema, D)}
    store = Store(tmp_path_factory.mktemp("sharded"))
    made = Snapshot.open(
        publish(catalog, store, IndexConfig(candidates=150, iterations=2), programs=programs)
    )
    return replace(made, content=replace(made.content, scan_budget=400))


@pytest.fixture(scope="module")
def runner(snapshot: Snapshot) -> Callable[[int], Runner]:
    @cache
    def on(shards: int) -> Runner:
        return Runner(snapshot, ",".join(["cpu"] * shards))

    return on


def queries(snapshot: Snapshot) -> list[Query]:
    """Of every kind: by vectors of one or each task, by history, of whom nothing is known; filtered, capped."""
    ids = snapshot.items["item_ids"].numpy()
    users = user_vectors(8, 2 * D, items=N)
    made = []
    for place, filter_ in enumerate(FILTERS.values()):
        common: dict[str, Any] = {
            "filter": filter_,
            "explain": True,
            "fields": ("title", "tags", "price", "year"),
        }
        vector = {QUERY_VECTOR: users[place][: D if place % 2 else 2 * D]}
        made += [
            Query("shop", 40, features=vector, excluded_ids=ids[::9], **common),
            Query("shop", 60, history=ids[place * 7 :: 500], **common),
            Query("shop", 50, excluded_ids=ids[:1000], **common),
            Query("shop", 30, features=vector, max_per_value=MaxPerValue("groups", 5), **common),
        ]
    return made


def assert_same(one: Any, other: Any) -> None:
    """Byte for byte, whatever the dataclass."""
    for f in fields(one):
        left, right = getattr(one, f.name), getattr(other, f.name)
        pairs = zip(left, right, strict=True) if isinstance(left, tuple) else [(left, right)]
        if isinstance(left, dict):
            assert left.keys() == right.keys()
            pairs = zip(left.values(), right.values(), strict=True)
        for a, b in pairs:
            if isinstance(a, np.ndarray):
                assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), f.name
            elif hasattr(a, "lengths"):
                assert_same(a, b)
            else:
                assert a == b, f.name


def answers(runner: Runner, asked: Sequence[Query]) -> list[Any]:
    return runner.run([runner.prepare(query) for query in asked])


@pytest.mark.parametrize("shards", [2, 3, 4])
def test_any_number_of_shards_answers_alike(
    snapshot: Snapshot, runner: Callable[[int], Runner], shards: int
) -> None:
    asked = queries(snapshot)
    wanted = answers(runner(1), asked)
    for one, other in zip(wanted, answers(runner(shards), asked), strict=True):
        assert_same(one, other)
    opened = [answer.explain.get("like.clusters_opened", "") for answer in wanted]
    assert len(set(opened)) > 5
    assert {len(answer.item_ids) for answer in wanted} >= {0, 30, 40, 50, 60}


def test_one_query_alone_is_answered_as_in_its_batch(
    snapshot: Snapshot, runner: Callable[[int], Runner]
) -> None:
    asked = queries(snapshot)
    whole = answers(runner(3), asked)
    for place in (0, 5, 10):
        (alone,) = answers(runner(3), asked[place : place + 1])
        assert_same(alone, whole[place])


@pytest.mark.parametrize("shards", [2, 4])
def test_parts_of_the_forward_pass_answer_alike(
    snapshot: Snapshot, runner: Callable[[int], Runner], shards: int
) -> None:
    one, other = runner(1), runner(shards)
    ids = snapshot.items["item_ids"].numpy()
    vectors = tuple(user_vectors(3, D, items=N))
    user = User(1, ids[5::400], {})
    asked = (*vectors, np.zeros(D, np.float32))
    search = SearchQuery("shop", 25, asked, filter=NARROW, excluded_ids=ids[::5])
    score = ScoreQuery("shop", user, np.append(ids[::31], 10**15))
    embed = EmbedQuery("shop", (user, User(2)))
    assert_same(*(r.search([r.prepare_search(search)])[0] for r in (one, other)))
    assert_same(*(r.score([r.prepare_score(score)])[0] for r in (one, other)))
    assert_same(*(r.embed([r.prepare_embed(embed)])[0] for r in (one, other)))


def test_what_tasks_have_in_common_is_the_same(snapshot: Snapshot) -> None:
    content = replace(snapshot.content, config=replace(snapshot.content.config, merge=Merge.INTERSECTION))
    shared = replace(snapshot, content=content)
    asked = queries(snapshot)[::4]
    wanted, found = (answers(Runner(shared, device), asked) for device in ("cpu", "cpu, cpu"))
    for one, other in zip(wanted, found, strict=True):
        assert_same(one, other)


def test_more_shards_than_clusters_leave_some_empty(catalog_of: CatalogOf, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    made = Snapshot.open(publish(catalog_of(vectors), Store(tmp_path), IndexConfig(clusters=2)))
    ids = made.items["item_ids"].numpy()
    query = Query("shop", 50, history=ids[:3], fields=("tags", "title"), explain=True)
    one, other = (answers(Runner(made, device), [query])[0] for device in ("cpu", "cpu,cpu,cpu,cpu"))
    assert_same(one, other)
