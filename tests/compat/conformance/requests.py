"""Requests of every kind, the same each time."""

from __future__ import annotations

from functools import cache

import numpy as np

from meshfold.protos.mesh.v1.orchestrator_pb2 import RetrieveRequest
from tests.compat.conformance.shop import FILTERS, IDS, SURFACE, N, exact_vectors

_FORMULAS = ("", "mixed", "similarity", "cheap", "recent")


@cache
def requests(count: int) -> tuple[RetrieveRequest, ...]:
    return tuple(_request(place) for place in range(count))


def _request(place: int) -> RetrieveRequest:
    rng = np.random.default_rng(place)
    formula = _FORMULAS[place % len(_FORMULAS)]
    request = RetrieveRequest(
        request_id=f"r-{place}",
        surface=SURFACE if place % 2 else "",
        max_results=(1, 10, 50, N)[place % 4],
        filter=list(FILTERS.values())[place % len(FILTERS)][0],
        excluded_item_ids=rng.choice(IDS, place % 9).tolist(),
        value_formula=formula,
    )
    user = request.user
    user.user_id = place
    if place % 4:
        user.history.extend(rng.choice(IDS, (place * 7) % 60).tolist())
        user.history.append(99_999)
    if place % 3 == 0:
        user.features["country"].strings.values.append(f"c{place % 5}")
        user.features["clock"].floats.values.extend(rng.random(2).tolist())
    if place % 5 == 2:
        user.features["search"].strings.values.append("Title 7, of those!")
        user.features["ages"].ints.values.append(place)
    if place % 6 == 5:
        user.features["query_vector"].floats.values.extend(
            exact_vectors(place, 1 + place % 2).ravel().tolist()
        )
    if formula == "recent":
        user.features["hour"].ints.values.append(place)
        request.task_weights["age"] = 0.5
    elif formula in ("", "mixed") and place % 2:
        request.task_weights["like"] = 0.25 * (place % 8)
    return request
