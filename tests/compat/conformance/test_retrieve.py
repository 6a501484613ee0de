"""OrchestratorService/Retrieve: what every field of a request means and every field of an answer says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from meshfold.protos.mesh.v1.orchestrator_pb2 import RetrieveRequest, RetrieveResponse
from tests.compat.conformance.shop import (
    FILTERS,
    IDS,
    ITEMS,
    LEAST,
    MOST,
    POPULARITY,
    SURFACE,
    TASKS,
    D,
    N,
    best_first,
    eligible,
    exact_vectors,
    over_arch_scores,
    similarities,
)
from tests.compat.conformance.targets import TIMEOUT_S, Target

QUERY = exact_vectors(7, 2)


def request(vectors: Any = QUERY, **parts: Any) -> RetrieveRequest:
    """A request for everything by similarity, less what `parts` say."""
    given = {"surface": SURFACE, "max_results": N, "value_formula": "similarity", **parts}
    message = RetrieveRequest(**given)
    if vectors is not None:
        message.user.features["query_vector"].floats.values.extend(np.ravel(vectors).tolist())
    return message


def ask(target: Target, message: RetrieveRequest) -> RetrieveResponse:
    response: RetrieveResponse = target.retrieve(message, timeout=TIMEOUT_S)
    return response


def ids_of(response: RetrieveResponse) -> list[int]:
    return [c.item_id for c in response.candidates]


def ids_at(places: Iterable[int]) -> list[int]:
    return [ITEMS[place].item_id for place in places]


def test_results_are_the_nearest_in_order_and_ties_go_to_the_smaller_id(target: Target) -> None:
    response = ask(target, request())
    near = similarities(list(QUERY)).max(0)
    order = best_first(near, [True] * N, N)
    assert ids_of(response) == ids_at(order)
    assert [c.similarity for c in response.candidates] == near[order].tolist()
    assert [c.value for c in response.candidates] == near[order].tolist()
    ties = np.diff(near[order]) == 0
    assert ties.sum() >= N / 8 - 1


@pytest.mark.parametrize("wanted", [1, 7, 100, N - 1])
def test_the_best_come_and_no_more_than_were_asked_for(target: Target, wanted: int) -> None:
    whole = ids_of(ask(target, request()))
    assert ids_of(ask(target, request(max_results=wanted))) == whole[:wanted]


def test_one_vector_stands_for_every_task(target: Target) -> None:
    one = ask(target, request(QUERY[0]))
    assert ids_of(one) == ids_of(ask(target, request(np.tile(QUERY[0], 2))))
    assert ids_of(one) == ids_at(best_first(similarities([QUERY[0]])[0], [True] * N, N))


def test_task_scores_are_those_of_the_published_over_arch(target: Target) -> None:
    response = ask(target, request())
    assert list(response.tasks) == list(TASKS)
    wanted = over_arch_scores(QUERY)
    for candidate in response.candidates:
        place = int(np.searchsorted(IDS, candidate.item_id))
        np.testing.assert_allclose(candidate.task_scores, wanted[place], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", FILTERS)
def test_a_filter_lets_through_exactly_what_it_says(target: Target, case: str) -> None:
    filter_, passes = FILTERS[case]
    response = ask(target, request(filter=filter_))
    near = similarities(list(QUERY)).max(0)
    assert ids_of(response) == ids_at(best_first(near, eligible(passes), N))


def test_as_many_come_as_are_eligible_however_few(target: Target) -> None:
    for wanted in (1, 5, 30):
        filter_ = {"range": {"field": "year", "min": 1960, "max": 1961, "inclusive": True}}
        few = eligible(lambda i: i.year in (1960, 1961))
        response = ask(target, request(filter=filter_, max_results=wanted))
        assert len(response.candidates) == min(wanted, sum(few))


def test_excluded_items_do_not_come_and_unknown_ids_change_nothing(target: Target) -> None:
    whole = ids_of(ask(target, request()))
    left_out = [*whole[:5], LEAST, MOST, 123_456_789, whole[0]]
    assert ids_of(ask(target, request(excluded_item_ids=left_out))) == [i for i in whole if i not in left_out]
    assert ids_of(ask(target, request(excluded_item_ids=IDS.tolist()))) == []


def test_the_history_does_not_come_back(target: Target) -> None:
    whole = ids_of(ask(target, request()))
    history = [*whole[3:9], 123_456_789]
    with_history = request()
    with_history.user.history.extend(history)
    # The vector that came goes before the history.
    assert ids_of(ask(target, with_history)) == [i for i in whole if i not in history]


def test_a_history_tells_of_its_user(target: Target) -> None:
    first, second = (request(None), request(None))
    first.user.history.extend(IDS[:5].tolist())
    second.user.history.extend(IDS[50:55].tolist())
    answers = [ask(target, r) for r in (first, second, request(None))]
    assert len({tuple(ids_of(a)) for a in answers}) == 3
    assert [len(a.candidates) for a in answers] == [N - 5, N - 5, N]


def test_features_that_the_schema_declares_tell_of_the_user(target: Target) -> None:
    answers = []
    for country in ("fr", "nz"):
        one = request(None)
        one.user.features["country"].strings.values.append(country)
        answers.append(ids_of(ask(target, one)))
    assert answers[0] != answers[1]


def test_features_that_nobody_declares_change_nothing(target: Target) -> None:
    more = request()
    more.user.features["colour"].strings.values.append("blue")
    more.user.features["nothing"].ints.SetInParent()
    assert ids_of(ask(target, more)) == ids_of(ask(target, request()))


@pytest.mark.parametrize("said", ["nothing", "an unknown history", "a vector of zeros"])
def test_of_whom_nothing_is_known_gets_what_is_popular(target: Target, said: str) -> None:
    message = request(np.zeros(D) if said == "a vector of zeros" else None)
    if said == "an unknown history":
        message.user.history.extend([123_456_789, 5_000_000])
    message.filter.exists.field = "year"
    response = ask(target, message)
    order = best_first(POPULARITY, eligible(lambda i: i.year is not None), N)
    assert ids_of(response) == ids_at(order)
    for candidate, place in zip(response.candidates, order, strict=True):
        assert candidate.similarity == candidate.value == POPULARITY[place]
        assert list(candidate.task_scores) == [POPULARITY[place]] * 2


def scores_of(response: RetrieveResponse) -> Any:
    return np.array([c.task_scores for c in response.candidates], np.float64)


def test_the_default_formula_orders_by_its_value(target: Target) -> None:
    response = ask(target, request(value_formula=""))
    scores = scores_of(response)
    values = [c.value for c in response.candidates]
    assert values == (0.5 * scores[:, 0] + scores[:, 1]).astype(np.float32).tolist()
    assert values == sorted(values, reverse=True)
    named = ask(target, request(value_formula="mixed"))
    assert [c.value for c in named.candidates] == values


def test_task_weights_go_into_the_formula(target: Target) -> None:
    response = ask(target, request(value_formula="mixed", task_weights={"like": 1.75}))
    scores = scores_of(response)
    values = [c.value for c in response.candidates]
    assert values == (1.75 * scores[:, 0] + scores[:, 1]).astype(np.float32).tolist()
    assert values == sorted(values, reverse=True)
    assert ids_of(response) != ids_of(ask(target, request(value_formula="mixed")))


def test_formulas_read_the_items_fields_and_the_requests_features(target: Target) -> None:
    cheap = ask(target, request(value_formula="cheap"))
    prices = {i.item_id: i.price or 0.0 for i in ITEMS}
    assert [c.value for c in cheap.candidates] == [-prices[c.item_id] for c in cheap.candidates]
    assert ids_of(cheap) == ids_at(best_first([-(i.price or 0.0) for i in ITEMS], [True] * N, N))
    recent = request(value_formula="recent", task_weights={"age": 0.5})
    recent.user.features["hour"].ints.values.append(8)
    years = [float(i.year or 1900) + 4 for i in ITEMS]
    response = ask(target, recent)
    assert ids_of(response) == ids_at(best_first(years, [True] * N, N))
    assert response.candidates[0].value == max(years)


def test_the_request_id_comes_back(target: Target) -> None:
    assert ask(target, request(request_id="r-1/ü")).request_id == "r-1/ü"
    assert ask(target, request()).request_id == ""


def test_the_only_surface_needs_no_name(target: Target) -> None:
    assert ids_of(ask(target, request(surface=""))) == ids_of(ask(target, request()))


def test_an_answer_names_the_versions_that_answered(target: Target) -> None:
    message = request(None)
    message.user.history.extend(IDS[:3].tolist())
    versions = ask(target, message).versions
    assert versions.index
    assert versions.user_tower == versions.index == versions.filter == versions.scoring


def test_explanations_come_to_those_who_ask(target: Target) -> None:
    assert not ask(target, request()).explain
    explained = ask(target, request(explain=True))
    assert explained.explain["user"] == "known"
    assert ask(target, request(None, explain=True)).explain["user"].startswith("nothing known")
    assert ids_of(explained) == ids_of(ask(target, request()))


def test_an_answer_is_the_same_each_time(target: Target) -> None:
    message = request(None, value_formula="mixed")
    message.user.history.extend(IDS[10:20].tolist())
    first = ask(target, message)
    for _ in range(3):
        assert ask(target, message) == first
