"""Requests for the shop of tests/service/conftest.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from meshfold.compat.shadow.pairs import Pair
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb


def request(number: int, **fields: Any) -> pb.RetrieveRequest:
    """Of a user who met three items; every second has a filter."""
    user = {"user_id": 1 + number % 5, "history": [10 + number, 40 + 2 * number, 90]}
    given = {"surface": "shop", "max_results": 10, "user": user, "request_id": f"request-{number}", **fields}
    made = pb.RetrieveRequest(**given)
    if number % 2:
        made.filter.match.field = "language"
        made.filter.match.strings.append("de")
    return made


def pair_of(made: pb.RetrieveRequest, **fields: Any) -> Pair:
    """A pair of which nothing but the request is known."""
    pair = Pair(made.request_id, made.surface, request=made.SerializeToString())
    return replace(pair, **fields)
