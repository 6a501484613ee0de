"""Chooses the pairs to attribute: half of them the worst pairs, half a random sample."""

from __future__ import annotations

from hashlib import blake2b
from heapq import heappush, heappushpop

from meshfold.compat.shadow.pairs import OK, Pair


class ChosenPairs:
    """The choice for one surface. It does not depend on the order of the pairs."""

    def __init__(self, most: int) -> None:
        # Heap entries: sort keys, whose smallest is dropped first, and the request id.
        self._worst: list[tuple[float, int, str]] = []
        self._drawn: list[tuple[float, int, str]] = []
        self._most = most

    def offer(self, pair: Pair) -> None:
        overlap = _overlap(pair)
        if overlap is None:
            return
        chance = chance_of(pair.request_id)
        _keep(self._worst, (-overlap, -chance, pair.request_id), self._most - self._most // 2)
        _keep(self._drawn, (0.0, -chance, pair.request_id), self._most)

    @property
    def request_ids(self) -> frozenset[str]:
        worst = {request_id for _, _, request_id in self._worst}
        drawn = [
            request_id for _, _, request_id in sorted(self._drawn, reverse=True) if request_id not in worst
        ]
        return frozenset(worst | set(drawn[: self._most - len(worst)]))


def chance_of(request_id: str) -> int:
    """A hash of a request id. The random sample has the pairs of the smallest hashes."""
    return int.from_bytes(blake2b(request_id.encode(), digest_size=8).digest(), "big")


def _keep(kept: list[tuple[float, int, str]], one: tuple[float, int, str], room: int) -> None:
    """Adds an entry to a heap of bounded size, which drops its smallest."""
    if len(kept) < room:
        heappush(kept, one)
    elif room:
        heappushpop(kept, one)


def _overlap(pair: Pair) -> float | None:
    """Common items over the longer answer's length; None where a side failed or both have the same items."""
    mesh, model = pair.mesh, pair.model
    if mesh is None or model is None or not mesh.status == model.status == OK:
        return None
    one, other = set(mesh.item_ids), set(model.item_ids)
    if one == other:
        return None
    return len(one & other) / max(len(one), len(other))
