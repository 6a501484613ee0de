"""Converts answers of mesh.v1 into sides of a pair."""

from __future__ import annotations

import math

import grpc
from google.protobuf.message import DecodeError

from meshfold.compat.shadow.pairs import ItemIds, SideAnswer
from meshfold.model.errors import InvalidData
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.mesh.v1 import types_pb2 as types


def answer_of(message: bytes, latency_ms: float = math.nan) -> SideAnswer:
    """The answer in the bytes of a mesh.v1.RetrieveResponse. Raises InvalidData where they cannot be parsed."""
    try:
        response = pb.RetrieveResponse.FromString(message)
    except DecodeError:
        raise InvalidData("an answer's bytes are not a mesh.v1.RetrieveResponse") from None
    candidates = response.candidates
    keys = [candidate.item_key for candidate in candidates]
    item_ids: ItemIds
    if any(keys):
        if not all(keys):
            raise InvalidData("an answer has item_key in some candidates only; expected one kind of ids")
        item_ids = tuple(keys)
    else:
        item_ids = tuple([candidate.item_id for candidate in candidates])
    return SideAnswer(
        item_ids,
        tuple([candidate.value for candidate in candidates]),
        latency_ms=latency_ms,
        version=_version(response.versions),
    )


def failure_of(code: grpc.StatusCode, latency_ms: float = math.nan) -> SideAnswer:
    """The answer of a side that failed with a status."""
    return SideAnswer((), status=code.name, latency_ms=latency_ms)


def _version(versions: types.Versions) -> str:
    """The version of an answer; where its parts have different ones, all of them in the order of the calls."""
    parts = (versions.user_tower, versions.index, versions.filter, versions.scoring)
    return " ".join(dict.fromkeys(version for version in parts if version))
