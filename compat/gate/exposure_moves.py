"""Field values that the model shows more or less often than the mesh, beyond a margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meshfold.compat.gate.confidence import Bounds, Wrong, bounds_of
from meshfold.compat.gate.excused import EXCUSED, without
from meshfold.compat.gate.settings import GateSettings
from meshfold.compat.gate.verdict import Decision, Reason
from meshfold.compat.shadow.comparison import Catalog, Difference
from meshfold.compat.shadow.exposure import ExposureCounts, ShareSums, user_share_of
from meshfold.compat.shadow.pairs import Pair

# Results compared: the first 10, and all of them (0).
_DEPTHS = (10, 0)
# Values with a reason of their own, the farthest moved first.
_MOST_REASONS = 5


@dataclass(frozen=True)
class _Move:
    """A value that moved. ratio: the model's share over the mesh's. is_sure: at all looks together."""

    name: str
    depth: int
    mesh: float
    model: float
    margin: float
    is_sure: bool

    @property
    def ratio(self) -> float:
        return self.model / self.mesh if self.mesh else math.inf

    @property
    def distance(self) -> float:
        return abs(math.log(self.ratio)) if 0 < self.ratio < math.inf else math.inf


class ExposureMoves:
    """Shares of results that hold each value of the catalog's fields, as means over users.

    A second count over pairs with known causes leaves out items whose difference is the mesh's doing. Once it has
    pairs, a value has moved only if both counts show it.
    """

    def __init__(self, catalog: Catalog, settings: GateSettings) -> None:
        self._all = ExposureCounts(catalog)
        self._explained = ExposureCounts(catalog)
        self._settings = settings
        self._attributed = 0

    def add(self, user: int, pair: Pair, differences: Sequence[Difference] | None) -> None:
        """Adds a pair with two OK answers. differences: None if the answers differ and causes are not known."""
        assert pair.mesh is not None
        assert pair.model is not None
        share = user_share_of(pair.user_key, pair.request_id)
        self._all.add(user, share, pair.mesh.item_ids, pair.model.item_ids)
        if differences is None:
            return
        self._attributed += bool(differences)
        # MERGE is not undone: a mesh that spreads a field's values reorders on purpose.
        explained = without(pair, differences, EXCUSED.union(self._settings.accepted_causes))
        assert explained.mesh is not None
        assert explained.model is not None
        self._explained.add(user, share, explained.mesh.item_ids, explained.model.item_ids)

    def reasons(self, wrong_no: float, min_users: int) -> list[Reason]:
        """One reason if users are too few or nothing moved; else one for each value that moved farthest."""
        looked_at = 0
        moves: list[_Move] = []
        users = 0
        for depth in _DEPTHS:
            sums = self._all.share_sums(depth)
            users = max(users, sums.users)
            wanted = self._wanted(sums)
            looked_at += len(wanted)
            # Each value has two directions at each depth, any of which may be wrong.
            wrong = wrong_no / max(1, 2 * len(_DEPTHS) * len(wanted))
            explained = self._explained.share_sums(depth) if self._attributed else None
            codes = {name: code for code, name in enumerate(self._explained.names)} if explained else {}
            for code in wanted:
                name = self._all.names[code]
                move = self._move(sums, code, name, depth, wrong)
                if move is None or not explained:
                    moves += [move] if move else []
                    continue
                again = self._move(explained, codes[name], name, depth, wrong) if name in codes else None
                if again is not None:
                    moves.append(_Move(*_figures(again), move.is_sure and again.is_sure))
        if users < min_users:
            sentence = f"{users:,} users had results of both sides; {min_users:,} are needed"
            return [Reason("exposure", Decision.NOT_ENOUGH, sentence, bound=self._settings.exposure_margin)]
        if not moves:
            sentence = f"no share of {looked_at:,} field values is beyond its margin, over {users:,} users"
            return [Reason("exposure", Decision.YES, sentence, bound=self._settings.exposure_margin)]
        moves.sort(key=lambda move: (not move.is_sure, -move.distance, move.name))
        # A value may have moved at both depths.
        farthest = {move.name: move for move in reversed(moves)}
        return [_reason(farthest[name]) for name in [*reversed(farthest)][:_MOST_REASONS]]

    def _wanted(self, sums: ShareSums) -> list[int]:
        """Codes of the values that either side shows often enough (exposure_share)."""
        least = self._settings.exposure_share * max(1, sums.users)
        return np.flatnonzero(np.maximum(sums.mesh, sums.model) >= least).tolist()

    def _move(
        self, sums: ShareSums, code: int, name: tuple[str, str], depth: int, wrong: float
    ) -> _Move | None:
        """None if the ratio of the shares is within the margin."""
        if sums.users < 2:
            return None
        full = "=".join(name)
        margins = self._settings.exposure_margins
        margin = margins.get(full, margins.get(name[0], self._settings.exposure_margin))
        mesh, model, *_ = (total / sums.users for total in sums.of(code))
        if (1 - margin) * mesh <= model <= (1 + margin) * mesh:
            return None
        edge = 1 - margin if model < mesh else 1 + margin
        scale = margin * max(mesh, self._settings.exposure_share)
        beyond = _beyond(sums, code, edge, scale, wrong)
        is_sure = beyond.high < 0 if model < mesh else beyond.low > 0
        return _Move(full, depth, mesh, model, margin, is_sure)


def _beyond(sums: ShareSums, code: int, edge: float, scale: float, wrong: float) -> Bounds:
    """Bounds on the mean over users of the model's share minus `edge` times the mesh's."""
    mesh, model, mesh_squared, model_squared, product = sums.of(code)
    users = sums.users
    value = (model - edge * mesh) / users
    squares = model_squared + edge * edge * mesh_squared - 2 * edge * product
    variance = max(0.0, squares / users - value * value) / (users - 1)
    # Few users change a mean share little: no unseen user is added.
    return bounds_of(value, variance, users, (-1.0, 1.0), scale, Wrong(wrong, wrong), 0.0)


def _figures(move: _Move) -> tuple[str, int, float, float, float]:
    return move.name, move.depth, move.mesh, move.model, move.margin


def _reason(move: _Move) -> Reason:
    where = f"of the first {move.depth} results" if move.depth else "of all results"
    sentence = f"{move.model:.2%} {where}, of the mesh's {move.mesh:.2%}: {move.ratio:.2f} times its share"
    low, high = 1 - move.margin, 1 + move.margin
    bound = low if move.ratio < 1 else high
    if move.is_sure:
        decision, sentence = Decision.NO, f"{sentence}, surely beyond {low:.2f} to {high:.2f}"
    else:
        decision, sentence = (
            Decision.NOT_ENOUGH,
            f"{sentence}, beyond {low:.2f} to {high:.2f}; more users would settle it",
        )
    return Reason(f"exposure {move.name}", decision, sentence, move.ratio, bound=bound)
