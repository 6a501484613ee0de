from __future__ import annotations

import numpy as np
import pytest

from meshfold.compat.mesh_v1 import search
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import Match
from meshfold.model.types import Neighbours, SearchQuery
from meshfold.protos.mesh.v1 import retrieval_pb2 as pb


def test_everything_that_is_asked_is_decoded() -> None:
    request = pb.SearchRequest(
        surface="movies", queries=[{"values": [0.5, -1]}, {}], excluded_item_ids=[9, -(2**63)], k=7
    )
    request.filter.match.field = "language"
    request.filter.match.strings.append("en")
    query = search.decode(request.SerializeToString())
    assert (query.surface, query.k, query.filter) == ("movies", 7, Match("language", ("en",)))
    assert [(str(v.dtype), v.tolist()) for v in query.queries] == [("float32", [0.5, -1]), ("float32", [])]
    assert np.asarray(query.excluded_ids).tolist() == [9, -(2**63)]
    assert search.decode(b"").filter is None


def test_neighbours_come_by_vector() -> None:
    found = Neighbours(
        "v1",
        (np.array([3, 1]), np.array([], np.int64)),
        (np.array([0.5, 0.25], np.float32), np.array([], np.float32)),
    )
    response = pb.SearchResponse.FromString(search.encode(SearchQuery("movies", 2, ()), found))
    assert response.version == "v1"
    assert [(list(n.item_ids), list(n.similarities)) for n in response.neighbours] == [
        ([3, 1], [0.5, 0.25]),
        ([], []),
    ]


def test_a_filter_that_sets_nothing_is_refused() -> None:
    with pytest.raises(InvalidQuery, match="filter: none of match"):
        search.decode(pb.SearchRequest(filter={}).SerializeToString())
