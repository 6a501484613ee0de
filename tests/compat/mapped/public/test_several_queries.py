"""Several queries in one request: one answer, of one version, or one refusal that names the query."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.compile import Mapping
from meshfold.compat.mapped.wire_user import WireUser
from meshfold.compat.migration.wire_scan import Scanned
from meshfold.model.errors import InvalidQuery, Unavailable
from meshfold.model.types import Candidates
from meshfold.service.call import Call

METHOD = "/google.cloud.aiplatform.container.v1.MatchService/BatchMatch"
VALUES = np.array([0.5], np.float32)


@pytest.fixture
def adapter(mappings: dict[str, Mapping]) -> Any:
    (found,) = [each for each in mappings["vertex"].adapters if each.METHOD == METHOD]
    return found


def batch(adapter: Any, *groups: Sequence[int]) -> bytes:
    """A request; the numbers of neighbors that each of its groups asks for."""
    made = GetMessageClass(adapter.descriptor.input_type)(
        requests=[
            {"deployed_index_id": "shop", "requests": [{"num_neighbors": count} for count in counts]}
            for counts in groups
        ]
    )
    content: bytes = made.SerializeToString()
    return content


def answered(adapter: Any, message: bytes, versions: Sequence[str]) -> tuple[Any, int]:
    """(the answer, how often the model was asked). versions: of the model, one a query in turn."""
    asked = 0

    async def model(call: Call) -> bytes:
        nonlocal asked
        query = adapter.decode(call.message)
        version = versions[min(asked, len(versions) - 1)]
        asked += 1
        await asyncio.sleep(0)
        if query.max_results == 99:
            raise InvalidQuery(adapter.path(query, "max_results"), "is too much")
        ids = np.array([query.max_results])
        return bytes(
            adapter.encode(query, Candidates(("like",), version, ids, VALUES, VALUES, VALUES[:, None]))
        )

    content = asyncio.run(adapter.around(model)(Call(message, time.monotonic() + 20)))
    return GetMessageClass(adapter.descriptor.output_type).FromString(content), asked


def test_answers_lie_where_their_queries_did(adapter: Any) -> None:
    answer, asked = answered(adapter, batch(adapter, [3, 4], [5]), ["v1"])
    found = [[match.neighbor[0].id for match in group.responses] for group in answer.responses]
    assert (found, asked) == ([["3", "4"], ["5"]], 3)
    assert [group.deployed_index_id for group in answer.responses] == ["shop", "shop"]


def test_all_queries_of_a_request_are_answered_by_one_version(adapter: Any) -> None:
    _, asked = answered(adapter, batch(adapter, [3, 4], [5]), ["v1", "v1", "v2"])
    assert asked == 6
    with pytest.raises(Unavailable, match="the catalog changed again and again meanwhile; ask again"):
        answered(adapter, batch(adapter, [3, 4]), [f"v{number}" for number in range(20)])


def test_a_query_that_is_refused_is_named(adapter: Any, public: grpc.Channel) -> None:
    with pytest.raises(InvalidQuery, match=r"requests\[1\]\.requests\[0\]\.num_neighbors: is too much"):
        answered(adapter, batch(adapter, [3, 4], [99, 5]), ["v1"])
    with pytest.raises(grpc.RpcError) as error:
        public.unary_unary(METHOD)(batch(adapter, [3, -1]), timeout=20)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "requests[0].requests[1].num_neighbors: must be 1 to 10000, got -1"


def test_the_first_query_tells_the_surface_to_the_modes(adapter: Any) -> None:
    scan = WireUser(adapter.request).scan
    found = scan(batch(adapter, [3, 4], [5]))
    assert found is not None
    assert (found.surface, found.user_id) == ("shop", 0)
    assert scan(b"\xff") is None
    assert isinstance(found, Scanned)
