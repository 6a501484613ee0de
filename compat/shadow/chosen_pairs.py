"""Which pairs have the causes of their differences looked for: half of them the worst, half by chance."""

from __future__ import annotations

from hashlib import blake2b
from heapq import heappush, heappushpop

from meshfold.compat.shadow.pairs import OK, Pair


class ChosenPairs:
    """Of one surface. Which pairs are chosen does not depend on their order."""

    def __init__(self, most: int) -> None:
        # Of each: what orders it, the last to go first, and its request id.
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
    """A hash of a request's id: pairs that are drawn by chance are those of the smallest ones."""
    return int.from_bytes(blake2b(request_id.encode(), digest_size=8).digest(), "big")


def _keep(kept: list[tuple[float, int, str]], one: tuple[float, int, str], room: int) -> None:
    """In a heap, whose first is the next to go."""
    if len(kept) < room:
        heappush(kept, one)
    elif room:
        heappushpop(kept, one)


def _overlap(pair: Pair) -> float | None:
    """The share of the longer answer's items that both have; None where a side failed or both have the same items."""
    mesh, model = pair.mesh, pair.model
    if mesh is None or model is None or not mesh.status == model.status == OK:
        return None
    one, other = set(mesh.item_ids), set(model.item_ids)
    if one == other:
        return None
    return len(one & other) / max(len(one), len(other))
