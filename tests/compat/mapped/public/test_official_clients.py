"""Public protocols, asked by their official clients, unchanged. `make public-protocols` installs and runs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.compat.mapped.public import client_calls
from tests.compat.mapped.public.client_descriptors import PROTOCOLS, descriptors
from tests.compat.mapped.public.conftest import EXAMPLES
from tests.compat.mapped.public.test_captured_requests import REFUSED

_CLIENTS = {
    "kserve_v2": "tritonclient.grpc",
    "qdrant": "qdrant_client",
    "vertex": "google.cloud.aiplatform.matching_engine._protos",
}


@pytest.fixture(params=sorted(PROTOCOLS))
def protocol(request: Any) -> str:
    name: str = request.param
    pytest.importorskip(_CLIENTS[name], exc_type=ImportError)
    return name


def test_the_descriptors_are_those_of_the_client(protocol: str) -> None:
    assert (EXAMPLES / f"{protocol}.binpb").read_bytes() == descriptors(protocol)


def test_calls_of_the_client_are_answered_or_refused_by_name(protocol: str, public_address: str) -> None:
    for name, call in client_calls.PROTOCOLS[protocol].items():
        told = REFUSED.get((protocol, name))
        if told is None and name != "infer_other_model":
            assert call(public_address), name
            continue
        with pytest.raises(Exception) as error:  # noqa: PT011
            call(public_address)
        assert (told or "elsewhere") in str(error.value), name


def test_tritonclient_reads_tensors(public_address: str) -> None:
    pytest.importorskip("tritonclient.grpc", exc_type=ImportError)
    answer = client_calls.KSERVE["infer"](public_address)
    ids, scores = answer.as_numpy("item_id"), answer.as_numpy("score")
    assert ids.dtype == np.int64
    assert scores.dtype == np.float32
    assert answer.as_numpy("task_scores").shape == (5, 2)
    assert [title.decode() for title in answer.as_numpy("title")] == [f"shop 0.{each - 10}" for each in ids]
    less = client_calls.KSERVE["infer_vector"](public_address)
    assert less.as_numpy("score") is None
    assert len(less.as_numpy("item_id")) == 10


def test_qdrant_client_reads_points(public_address: str) -> None:
    pytest.importorskip("qdrant_client", exc_type=ImportError)
    points = client_calls.QDRANT["vector"](public_address).points
    assert [point.payload["title"] for point in points] == [f"shop 0.{point.id - 10}" for point in points]
    batch = client_calls.QDRANT["batch"](public_address)
    assert [each.id for each in batch[0].points] == [point.id for point in points][:3]


def test_the_stub_of_vertex_reads_neighbors(public_address: str) -> None:
    pytest.importorskip(_CLIENTS["vertex"], exc_type=ImportError)
    answer = client_calls.VERTEX["match"](public_address)
    assert [neighbor.distance for neighbor in answer.neighbor] == sorted(n.distance for n in answer.neighbor)
    groups = client_calls.VERTEX["batch"](public_address).responses
    assert [[len(match.neighbor) for match in group.responses] for group in groups] == [[3, 2], [2]]
