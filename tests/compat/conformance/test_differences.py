"""The known differences, shown on both sides, and the page that lists them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from meshfold.protos.mesh.v1.retrieval_pb2 import SearchRequest
from meshfold.protos.mesh.v1.scoring_pb2 import ScoreRequest
from tests.compat.conformance.differences import DIFFERENCES, table
from tests.compat.conformance.shop import IDS, SURFACE, VECTORS, D, N
from tests.compat.conformance.targets import MESH, MODEL, TIMEOUT_S, Target
from tests.compat.conformance.test_errors import EVERY, WELL_FORMED
from tests.compat.conformance.test_retrieve import ask, request
from tests.compat.conformance.test_transport import METHODS

PAGE = Path(__file__).parents[3] / "docs" / "compatibility.md"


def answered(target: Target, service: str) -> set[str]:
    """The calls that a service's port answers."""
    codes: dict[str, Any] = {}
    for call in EVERY:
        kind, given = WELL_FORMED[call]
        message = kind(**given).SerializeToString()
        codes[call] = (
            target.channels[service].unary_unary(METHODS[call]).future(message, timeout=TIMEOUT_S).code()
        )
    assert set(codes.values()) <= {grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED}
    return {call for call, code in codes.items() if code is grpc.StatusCode.OK}


def ports(model: Target, mesh: Target) -> None:
    for service in model.channels:
        assert answered(model, service) == set(EVERY)
    assert [answered(mesh, service) for service in mesh.channels] == [{call} for call in EVERY]


def versions(model: Target, mesh: Target) -> None:
    ours, theirs = ask(model, request()).versions, ask(mesh, request()).versions
    assert ours.user_tower == ours.index == ours.filter == ours.scoring != ""
    assert (theirs.user_tower, theirs.index, theirs.scoring) == ("", ours.index, ours.scoring)


def explain(model: Target, mesh: Target) -> None:
    ours, theirs = (ask(target, request(None, explain=True)).explain for target in (model, mesh))
    assert {"user", "items", "eligible", "pass_rate"} <= set(ours)
    assert {"user", "embed_ms", "search_ms", "score_ms"} <= set(theirs)


def rounding(model: Target, mesh: Target) -> None:
    vectors = np.random.default_rng(0).standard_normal((8, D)).astype(np.float32)
    message = SearchRequest(surface=SURFACE, k=N, queries=[{"values": v.tolist()} for v in vectors])
    found = [
        np.stack(
            [
                np.array(n.similarities)[np.argsort(n.item_ids)]
                for n in target.search(message, timeout=TIMEOUT_S).neighbours
            ]
        )
        for target in (model, mesh)
    ]
    lengths = np.linalg.norm(vectors, axis=1)[:, None] * np.linalg.norm(VECTORS, axis=1)
    assert 0 < (np.abs(found[0] - found[1]) / lengths).max() < 1e-4


def company(model: Target, mesh: Target) -> None:
    user = {"history": IDS[:5].tolist()}

    def values(target: Target, ids: Any) -> Any:
        message = ScoreRequest(surface=SURFACE, user=user, item_ids=ids)
        return np.array(target.score(message, timeout=TIMEOUT_S).values, np.float32)

    whole = {target.name: values(target, IDS.tolist()) for target in (model, mesh)}
    for start in range(0, N, 37):
        some = slice(start, start + 37)
        assert (values(model, IDS[some].tolist()) == whole[MODEL][some]).all()
        np.testing.assert_allclose(values(mesh, IDS[some].tolist()), whole[MESH][some], rtol=0, atol=1e-5)


def limits(model: Target, mesh: Target) -> None:
    search = SearchRequest(surface=SURFACE, k=12_000, queries=[{"values": [1.0] * D}])
    score = ScoreRequest(surface=SURFACE, item_ids=range(12_000))
    assert len(mesh.search(search, timeout=TIMEOUT_S).neighbours[0].item_ids) == N
    assert mesh.score(score, timeout=TIMEOUT_S).values
    for call, message in ((model.search, search), (model.score, score)):
        with pytest.raises(grpc.RpcError) as caught:
            call(message, timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


SHOWN: dict[str, Callable[[Target, Target], None]] = {
    show.__name__: show for show in (ports, versions, explain, rounding, company, limits)
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_difference_is_as_it_is_told(targets: dict[str, Target], name: str) -> None:
    SHOWN[name](targets[MODEL], targets[MESH])


def test_each_difference_is_shown_and_the_page_lists_the_same() -> None:
    assert list(SHOWN) == list(DIFFERENCES)
    (listed,) = re.findall(r"<!-- differences -->\n(.*?)\n<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert listed == table(), f"write between the marks of {PAGE.name}:\n{table()}"
