"""When two answers are the same but for ties."""

from __future__ import annotations

from meshfold.protos.mesh.v1.orchestrator_pb2 import Candidate, RetrieveResponse

APART = 1e-3


def different(ours: RetrieveResponse, theirs: RetrieveResponse) -> str:
    """What is not the same but for ties; empty where everything is. Values may lie APART."""
    if len(ours.candidates) != len(theirs.candidates):
        return f"{len(ours.candidates)} and {len(theirs.candidates)} results"
    values = [{id_of(c): c.value for c in side.candidates} for side in (ours, theirs)]
    for rank, (one, other) in enumerate(zip(ours.candidates, theirs.candidates, strict=True)):
        if abs(one.value - other.value) > APART:
            return f"values {one.value} and {other.value} at rank {rank}"
        if id_of(one) != id_of(other):
            # Items may change places, or fall behind the last, where their values are as good as equal.
            for item, here, there in ((one, *values), (other, *values[::-1])):
                last = min(there.values())
                if abs(here[id_of(item)] - there.get(id_of(item), last)) > APART:
                    return f"item {id_of(item)} at rank {rank}"
    return ""


def id_of(candidate: Candidate) -> int | str:
    key: str = candidate.item_key
    return key or int(candidate.item_id)
