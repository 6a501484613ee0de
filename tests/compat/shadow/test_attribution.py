"""Causes of differences, each planted in an answer to a request for a small catalog."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from meshfold.compat.shadow.attribution import Attribution, MeshFacts
from meshfold.compat.shadow.attribution.model_lists import ModelLists
from meshfold.compat.shadow.attribution.ranking import Ranking
from meshfold.compat.shadow.catalog import Admission, SnapshotCatalog
from meshfold.compat.shadow.comparison import Cause
from meshfold.compat.shadow.pairs import SideAnswer
from meshfold.model.snapshot import Snapshot
from tests.compat.shadow.attribution_world import (
    FILTER,
    ITEMS,
    K,
    answer_of,
    causes,
    exact,
    pair_of,
    published,
    query_of,
    served,
)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return published(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def lists(snapshot: Snapshot) -> ModelLists:
    return ModelLists(snapshot)


def without(ranking: Ranking, *places: int) -> Ranking:
    gone = {ranking.ids[place] for place in places}
    return ranking.changed(gone, {})


def test_equal_answers_have_no_differences(snapshot: Snapshot, lists: ModelLists) -> None:
    query = query_of(1)
    answer = answer_of(served(lists, query))
    assert Attribution(snapshot).differences(pair_of(query, answer, answer)) == ()


def test_misses_of_either_index_are_told_apart_and_order_the_differences(
    snapshot: Snapshot, lists: ModelLists
) -> None:
    number = next(
        n for n in range(100) if served(lists, query_of(n)).top(K) != exact(lists, query_of(n)).top(K)
    )
    query = query_of(number)
    best, found = exact(lists, query), served(lists, query)
    missed_by_model = best.top(K) - found.top(K)
    place = next(i for i, item in enumerate(best.ids) if item in found.top(K))
    pair = pair_of(query, answer_of(found), answer_of(without(best, place), snapshot.version))
    told = Attribution(snapshot).differences(pair)
    by_item = causes(told)
    assert by_item[best.ids[place]] == Cause.MESH_ANN_MISS
    assert missed_by_model
    assert {by_item[item] for item in missed_by_model} == {Cause.MODEL_ANN_MISS}
    assert set(by_item.values()) == {Cause.MESH_ANN_MISS, Cause.MODEL_ANN_MISS}
    assert [d.missing_from for d in told] == sorted(d.missing_from for d in told)
    for d in told:
        side = pair.model if d.missing_from == "mesh" else pair.mesh
        assert side is not None
        assert side.item_ids[d.rank - 1] == d.item_id


def test_a_missing_item_that_the_mesh_was_never_seen_to_have_has_no_known_cause(
    snapshot: Snapshot, lists: ModelLists
) -> None:
    query = query_of(2)
    best = exact(lists, query)
    pair = pair_of(query, answer_of(best), answer_of(without(best, 3)))
    assert causes(Attribution(snapshot).differences(pair))[best.ids[3]] == Cause.UNKNOWN
    attribution = Attribution(snapshot)
    # Another answer shows that the mesh has it.
    attribution.notice([replace(pair, mesh=SideAnswer((best.ids[3],)))])  # type: ignore[arg-type]
    assert causes(attribution.differences(pair))[best.ids[3]] == Cause.MESH_ANN_MISS
    facts = MeshFacts(item_ids=frozenset(range(ITEMS)) - {best.ids[3]})
    told = causes(Attribution(snapshot, facts).differences(pair))
    # What moved up in its place has the same cause.
    assert set(told.values()) == {Cause.MESH_CATALOG}
    assert len(told) == 2


def test_items_that_the_snapshot_lacks_and_what_they_displace_are_the_models_catalog(
    snapshot: Snapshot, lists: ModelLists
) -> None:
    query = query_of(3)
    best = exact(lists, query)
    newer = Ranking.of([*zip(best.ids, best.values, strict=True), (ITEMS + 5, best.values[0] + 1)])
    told = causes(Attribution(snapshot).differences(pair_of(query, answer_of(best), answer_of(newer))))
    assert told == {ITEMS + 5: Cause.MODEL_CATALOG, best.ids[K - 1]: Cause.MODEL_CATALOG}


@pytest.mark.parametrize("side", ["mesh", "model"])
def test_a_filter_that_ignores_not_is_the_fault_of_its_side(
    snapshot: Snapshot, lists: ModelLists, side: str
) -> None:
    query, lax = query_of(4, FILTER), query_of(4, "year >= 1990")
    right = answer_of(exact(lists, query), snapshot.version)
    wrong = answer_of(exact(lists, lax) if side == "mesh" else served(lists, lax))
    pair = pair_of(query, right, wrong) if side == "mesh" else pair_of(query, wrong, right)
    told = causes(Attribution(snapshot).differences(pair))
    expected = {"mesh": Cause.MESH_FILTER, "model": Cause.MODEL_FILTER}[side]
    violators = SnapshotCatalog(snapshot).not_admitted(Admission(query.filter, frozenset()), wrong.item_ids)
    assert len(violators) >= 2
    assert {told[item] for item in violators} == {expected}
    # What they displaced has the same cause.
    assert list(told.values()).count(expected) > len(violators)
    assert set(told.values()) <= {expected, *([Cause.MODEL_ANN_MISS] if side == "model" else [])}


def test_values_at_the_cut_that_differ_by_rounding_are_ties_or_precision(
    snapshot: Snapshot, lists: ModelLists
) -> None:
    seen = set()
    for number in range(60):
        query = query_of(number)
        best = exact(lists, query)
        rounded = np.array(best.values, np.float16).astype(np.float64).tolist()
        other = Ranking.of(zip(best.ids, rounded, strict=True))
        pair = pair_of(query, answer_of(served(lists, query)), answer_of(other, snapshot.version))
        if other.top(K) != best.top(K):
            told = causes(Attribution(snapshot).differences(pair))
            seen |= {told[item] for item in (other.top(K) ^ best.top(K)) & told.keys()}
    assert Cause.PRECISION in seen
    assert seen <= {Cause.PRECISION, Cause.TIE, Cause.MODEL_ANN_MISS}


@pytest.mark.parametrize("side", ["mesh", "model"])
def test_an_answer_out_of_its_own_order_is_a_merges_fault(
    snapshot: Snapshot, lists: ModelLists, side: str
) -> None:
    query = query_of(5)
    best, found = exact(lists, query), served(lists, query)
    order = np.random.default_rng(0).permutation(K + 10)[:K].tolist()
    shuffled = Ranking([best.ids[i] for i in order], [best.values[i] for i in order])
    model, mesh = answer_of(found), answer_of(shuffled, snapshot.version)
    if side == "model":
        model, mesh = answer_of(shuffled), answer_of(best, snapshot.version)
    told = causes(Attribution(snapshot).differences(pair_of(query, model, mesh)))
    beyond = set(shuffled.ids) - best.top(K) - found.top(K)
    assert beyond
    assert {told[item] for item in beyond} == {Cause.MERGE}


def test_an_answer_that_ends_early_was_cut(snapshot: Snapshot, lists: ModelLists) -> None:
    query = query_of(6)
    best = exact(lists, query)
    pair = pair_of(query, answer_of(best), answer_of(best, snapshot.version, K // 2))
    told = causes(Attribution(snapshot).differences(pair))
    assert told == dict.fromkeys(best.ids[K // 2 : K], Cause.CAP)


def test_other_values_of_a_mesh_that_cannot_be_asked_are_no_cause(
    snapshot: Snapshot, lists: ModelLists
) -> None:
    """Vectors or scores differ; answers alone do not tell which."""
    query = query_of(7)
    best = exact(lists, query)
    other = Ranking.of((item, -value) for item, value in zip(best.ids, best.values, strict=True))
    pair = pair_of(query, answer_of(best), answer_of(other, snapshot.version))
    assert set(causes(Attribution(snapshot).differences(pair)).values()) == {Cause.UNKNOWN}


def test_pairs_that_cannot_be_explained_are_counted(snapshot: Snapshot, lists: ModelLists) -> None:
    query = query_of(8)
    best = exact(lists, query)
    pair = pair_of(query, answer_of(best), answer_of(without(best, 0)))
    attribution = Attribution(snapshot)
    cases = [
        replace(pair, request=b""),
        replace(pair, is_redacted=True),
        replace(pair, request=b"\xff"),
        pair_of(replace(query, surface="other"), answer_of(best), answer_of(without(best, 0))),
        pair_of(query_of(8, 'colour == "red"'), answer_of(best), answer_of(without(best, 0))),
        pair_of(query, SideAnswer(("a", "b")), SideAnswer(())),
    ]
    for case in cases:
        told = attribution.differences(case)
        assert [d.cause for d in told] == [Cause.UNKNOWN] * 2
    assert sum(attribution.counted.values()) == len(cases)
    failed = replace(pair, mesh=SideAnswer((), status="UNAVAILABLE"))
    assert attribution.differences(failed) == ()
    assert attribution.differences(replace(pair, mesh=None)) == ()


def test_services_that_do_not_answer_leave_causes_unknown(snapshot: Snapshot, lists: ModelLists) -> None:
    query = query_of(9)
    best = exact(lists, query)
    pair = pair_of(query, answer_of(best), answer_of(without(best, 0)))
    attribution = Attribution(snapshot, MeshFacts(scoring="127.0.0.1:1", timeout_s=0.5))
    assert {d.cause for d in attribution.differences(pair)} == {Cause.UNKNOWN}
    assert list(attribution.counted.values()) == [1]
    attribution.close()


def test_pairs_together_have_the_causes_that_each_has_alone(snapshot: Snapshot, lists: ModelLists) -> None:
    queries = [query_of(n, FILTER if n % 3 == 0 else "") for n in range(12)]
    pairs = [
        pair_of(q, answer_of(served(lists, q)), answer_of(without(exact(lists, q), 1, 4), snapshot.version))
        for q in queries
    ]
    together = Attribution(snapshot).differences_of(pairs)
    assert together == [Attribution(snapshot).differences(pair) for pair in pairs]
    assert sum(map(len, together)) > 12


def test_an_item_that_is_told_twice_stands_in_anothers_place(snapshot: Snapshot, lists: ModelLists) -> None:
    query = query_of(10)
    best = answer_of(exact(lists, query), snapshot.version)
    twice = replace(best, item_ids=(*best.item_ids[:-1], best.item_ids[-2]))
    told = Attribution(snapshot).differences(pair_of(query, best, twice))
    assert causes(told) == {best.item_ids[-1]: Cause.MERGE}


def test_scores_that_are_no_numbers_tell_nothing(snapshot: Snapshot, lists: ModelLists) -> None:
    query = query_of(11)
    best = exact(lists, query)
    mesh = answer_of(without(best, 2), snapshot.version)
    pair = pair_of(query, answer_of(best), replace(mesh, scores=(math.nan, *mesh.scores[1:])))
    assert {d.cause for d in Attribution(snapshot).differences(pair)} == {Cause.UNKNOWN}
