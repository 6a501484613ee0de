"""Whether a model loses no more of a measure than a margin, beyond what the mesh differs from itself.

Two figures tell the loss, each of which leaves out the mesh's own part, so that both together would leave it out twice:

- by noise: the measure of model and mesh minus that of the mesh's two answers, over requests asked twice;
- by causes: the measure with the mesh's misses, its faults and ties undone, minus 1, over pairs whose causes are known.

The model passes where either figure is surely above minus the margin, and is stopped where both are surely below it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from meshfold.compat.gate.confidence import Bounds, Wrong, double_bounds
from meshfold.compat.gate.user_means import Float, UserMeans
from meshfold.compat.gate.verdict import Decision, Reason

# Columns: of all pairs; of those asked twice; of those whose causes are known.
_ALL, _BESIDE_NOISE, _EXCESS, _BESIDE_CAUSES, _UNEXCUSED, _NAMED = range(6)
# Bounds of fewer users hold nothing back.
_FEWEST = 20


class Agreement:
    """One measure, from 0 to 1, where 1 is the same answer."""

    def __init__(self, name: str, margin: float) -> None:
        self._name = name
        self._margin = margin
        self._means = UserMeans(6)
        self._attributed = 0

    def add(self, user: int, difference: float, noise: float = math.nan) -> None:
        """Of a pair: the measure of model and mesh, and of the mesh's two answers; NaN where it was asked once."""
        self._means.add(user, _ALL, difference)
        if not math.isnan(noise):
            self._means.add(user, _BESIDE_NOISE, difference)
            self._means.add(user, _EXCESS, difference - noise)

    def add_causes(
        self, user: int, difference: float, excused: float, named: float, is_attributed: bool
    ) -> None:
        """Of a pair that is in the sample for causes: the measure; with what is not the model's doing undone; and with
        what has no known cause undone, too. is_attributed: whether any cause is known."""
        self._attributed += is_attributed
        for column, value in ((_BESIDE_CAUSES, difference), (_UNEXCUSED, excused - 1), (_NAMED, named - 1)):
            self._means.add(user, column, value)

    def add_many(self, users: NDArray[np.int64], difference: Float, noise: Float) -> None:
        """As `add` of each."""
        is_twice = ~np.isnan(noise)
        self._means.add_many(users, _ALL, difference)
        self._means.add_many(users[is_twice], _BESIDE_NOISE, difference[is_twice])
        self._means.add_many(users[is_twice], _EXCESS, (difference - noise)[is_twice])

    def reason(self, wrong_yes: float, wrong_no: float, min_users: int) -> Reason:
        """wrong_yes, wrong_no: the chances of either at all looks together. min_users: without whom neither is said."""
        has_noise = self._means.count(_EXCESS) > 0
        ways = 2 if has_noise and self._attributed else 1
        wrong = Wrong(wrong_yes / ways, wrong_no)
        told: dict[str, Bounds] = {}
        if has_noise:
            told["beyond the mesh's own noise"] = self._bounds(_EXCESS, _BESIDE_NOISE, wrong)
        if self._attributed:
            by_causes = self._bounds(_UNEXCUSED, _BESIDE_CAUSES, wrong)
            if not has_noise:
                # The mesh's noise may be among what has no known cause.
                by_causes = replace(by_causes, high=self._bounds(_NAMED, _BESIDE_CAUSES, wrong).high)
            told["for causes that count against it"] = by_causes
        if not told:
            everything = self._bounds(_ALL, _ALL, wrong, less=1.0)
            told["of all that differs"] = replace(everything, high=1.0)
        of, best = max(told.items(), key=lambda way: (way[1].users >= min_users, way[1].low))
        high = max(way.high if way.users >= _FEWEST else 1.0 for way in told.values())
        return self._reason(of, replace(best, high=high), has_noise or self._attributed > 0, min_users)

    def _bounds(self, column: int, beside: int, wrong: Wrong, less: float = 0.0) -> Bounds:
        means = self._means
        values = means.means(column) - less
        span = (-1.0, 1.0 if column == _EXCESS else 0.0)
        return double_bounds(values, means.means(beside), means.means(_ALL), span, self._margin, wrong)

    def _reason(self, of: str, bounds: Bounds, is_complete: bool, min_users: int) -> Reason:
        margin, users = self._margin, bounds.users
        if not users:
            return Reason(
                self._name, Decision.NOT_ENOUGH, "no pair has answers of both sides yet", bound=-margin
            )
        worst, best = max(0.0, -bounds.low), -bounds.high
        figure = f"the model loses {_plain(-bounds.value)} {of}, over {users:,} users"
        if bounds.value > 0:
            figure = f"the model loses nothing {of} (it agrees {_plain(bounds.value)} better), over {users:,} users"
        if users < min_users:
            decision = Decision.NOT_ENOUGH
            sentence = f"{figure}; {min_users:,} users are needed"
        elif bounds.low > -margin:
            decision = Decision.YES
            sentence = f"{figure}: surely at most {_plain(worst)}, with {margin:g} allowed"
        elif bounds.high < -margin:
            decision = Decision.NO
            sentence = (
                f"{figure}: surely at least {_plain(best)}, with {margin:g} allowed; "
                "`meshfold shadow compare` tells the causes"
            )
        else:
            decision = Decision.NOT_ENOUGH
            sentence = f"{figure}: up to {_plain(worst)} is possible, with {margin:g} allowed"
            if is_complete:
                sentence += f"; {self._remedy(bounds)}"
        if decision is Decision.NOT_ENOUGH and not is_complete:
            sentence += (
                "; no request was asked twice, so that the mesh's own noise counts against the model: set "
                "comparison.noise_share"
            )
        return Reason(self._name, decision, sentence, bounds.value, bounds.low, bounds.high, -margin)

    def _remedy(self, bounds: Bounds) -> str:
        """How many users would do if the figure stayed: bounds narrow with their root."""
        gap = abs(bounds.value + self._margin)
        width = (bounds.value - bounds.low) if bounds.value > -self._margin else (bounds.high - bounds.value)
        if gap <= width / 30:
            return "the figure is at the margin: more pairs may never tell"
        return f"about {math.ceil(bounds.users * (width / gap) ** 2 / 100) * 100:,} users would tell"


def _plain(loss: float) -> str:
    """Without a minus before zero."""
    return f"{round(loss, 4) + 0.0:.4f}"
