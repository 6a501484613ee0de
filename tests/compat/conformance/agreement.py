"""When two answers are the same but for ties."""

from __future__ import annotations

from meshfold.protos.mesh.v1.orchestrator_pb2 import RetrieveResponse

APART = 1e-3


def different(ours: RetrieveResponse, theirs: RetrieveResponse) -> str:
    """What is not the same but for ties; empty where everything is. Values may lie APART."""
    if len(ours.candidates) != len(theirs.candidates):
        return f"{len(ours.candidates)} and {len(theirs.candidates)} results"
    values = [{c.item_id: c.value for c in side.candidates} for side in (ours, theirs)]
    for rank, (one, other) in enumerate(zip(ours.candidates, theirs.candidates, strict=True)):
        if abs(one.value - other.value) > APART:
            return f"values {one.value} and {other.value} at rank {rank}"
        if one.item_id != other.item_id:
            # Items may change places, or fall behind the last, where their values are as good as equal.
            for item, here, there in ((one, *values), (other, *values[::-1])):
                last = min(there.values())
                if abs(here[item.item_id] - there.get(item.item_id, last)) > APART:
                    return f"item {item.item_id} at rank {rank}"
    return ""
