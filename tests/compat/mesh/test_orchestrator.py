from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshfold.compat.mesh.orchestrator import decode, merge
from meshfold.compat.mesh.order import Numbers
from meshfold.model.config import Merge
from meshfold.model.errors import InvalidQuery
from meshfold.model.types import Float32s, Int64s
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

Found = dict[int, float]


def arrays(found: Found) -> tuple[Int64s, Float32s]:
    return np.array(list(found), np.int64), np.array(list(found.values()), np.float32)


similarities = st.dictionaries(st.integers(0, 30), st.integers(0, 4).map(float), max_size=20)


@given(st.lists(similarities, min_size=2, max_size=3), st.integers(1, 40), st.integers(1, 20))
def test_tasks_are_merged_by_their_largest_similarity(tasks: list[Found], depth: int, wanted: int) -> None:
    largest: Found = {}
    for task in tasks:
        for item, similarity in task.items():
            largest[item] = max(similarity, largest.get(item, -1.0))
    order = sorted(largest, key=lambda item: (-largest[item], item))
    common = {item for item in largest if all(item in task for task in tasks)}
    others = [item for item in order if item not in common][: max(0, wanted - len(common))]
    kept = {Merge.UNION: order, Merge.INTERSECTION: [i for i in order if i in common or i in others]}
    for how, expected in kept.items():
        ids, values = merge([arrays(task) for task in tasks], how, depth, wanted)
        assert ids.tolist() == expected[:depth]
        assert values.tolist() == [largest[item] for item in expected[:depth]]


def test_strings_are_merged_as_integers_are() -> None:
    first: Found = {3: 2.0, 1: 1.0, 4: 1.0}
    second: Found = {1: 1.0, 7: 1.0, 2: 0.5}
    # In the order of their bytes, which is not that of UTF-16.
    names = {1: "B", 2: "a", 3: "\xe9", 4: "\uffff", 7: "\U0001f3ac"}
    lists = [tuple(names[item] for item in found) for found in (first, second)]
    numbers = Numbers(lists)
    for how in Merge:
        ids, similarities = merge([arrays(first), arrays(second)], how, 9, 4)
        found = [(numbers.of(i), arrays(f)[1]) for i, f in zip(lists, (first, second), strict=True)]
        of_strings = merge(found, how, 9, 4)
        assert numbers.ids_at(of_strings[0]) == tuple(names[item] for item in ids.tolist())
        assert of_strings[1].tolist() == similarities.tolist()


def test_a_request_is_kept_as_it_came_beside_its_query() -> None:
    request = pb.RetrieveRequest(surface="shop", max_results=3, request_id="r")
    request.user.history.extend([4, 5])
    asked = decode(request.SerializeToString())
    assert asked.request == request
    assert np.asarray(asked.query.history).tolist() == [4, 5]
    with pytest.raises(InvalidQuery):
        decode(b"\xff")
