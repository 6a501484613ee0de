"""Agreement: whether the model loses at most a margin of a measure, beyond the mesh's own noise.

There are two estimates of the loss. Each leaves out the mesh's own part, so they are alternatives and never added:

- by noise: the measure of model and mesh minus that of the mesh's two answers, over requests asked twice;
- by causes: the measure after undoing the mesh's misses, its faults and ties, minus 1, over pairs with known causes.

The model passes if either estimate is surely above minus the margin. It is stopped if both are surely below.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from meshfold.compat.gate.confidence import Bounds, Wrong, double_bounds
from meshfold.compat.gate.user_means import Float, UserMeans
from meshfold.compat.gate.verdict import Decision, Reason

# Columns: the measure over all pairs; over pairs asked twice, with its excess over noise; over pairs sampled for
# causes, with the loss that is not excused, and that part of it with a known cause.
_ALL, _BESIDE_NOISE, _EXCESS, _BESIDE_CAUSES, _UNEXCUSED, _NAMED = range(6)
# Fewer users give no upper bound, so they cannot stop the model.
_FEWEST = 20


class Agreement:
    """One measure from 0 to 1; 1 means the same answer."""

    def __init__(self, name: str, margin: float) -> None:
        self._name = name
        self._margin = margin
        self._means = UserMeans(6)
        self._attributed = 0

    def add(self, user: int, difference: float, noise: float = math.nan) -> None:
        """Adds a pair.

        difference: the measure of model and mesh. noise: that of the mesh's two answers; NaN if there is one answer.
        """
        self._means.add(user, _ALL, difference)
        if not math.isnan(noise):
            self._means.add(user, _BESIDE_NOISE, difference)
            self._means.add(user, _EXCESS, difference - noise)

    def add_causes(
        self, user: int, difference: float, excused: float, named: float, is_attributed: bool
    ) -> None:
        """Adds a pair of the sample for causes.

        difference: the measure. excused: the measure after undoing differences that are not the model's doing. named:
        the same with differences of unknown cause undone, too. is_attributed: whether any cause is known.
        """
        self._attributed += is_attributed
        for column, value in ((_BESIDE_CAUSES, difference), (_UNEXCUSED, excused - 1), (_NAMED, named - 1)):
            self._means.add(user, column, value)

    def add_many(self, users: NDArray[np.int64], difference: Float, noise: Float) -> None:
        """The same as `add` for each pair. [N] each."""
        is_twice = ~np.isnan(noise)
        self._means.add_many(users, _ALL, difference)
        self._means.add_many(users[is_twice], _BESIDE_NOISE, difference[is_twice])
        self._means.add_many(users[is_twice], _EXCESS, (difference - noise)[is_twice])

    def reason(self, wrong_yes: float, wrong_no: float, min_users: int) -> Reason:
        """wrong_yes, wrong_no: chances of these errors at all looks together. min_users: needed to decide."""
        has_noise = self._means.count(_EXCESS) > 0
        ways = 2 if has_noise and self._attributed else 1
        wrong = Wrong(wrong_yes / ways, wrong_no)
        estimates: dict[str, Bounds] = {}
        if has_noise:
            estimates["beyond the mesh's own noise"] = self._bounds(_EXCESS, _BESIDE_NOISE, wrong)
        if self._attributed:
            by_causes = self._bounds(_UNEXCUSED, _BESIDE_CAUSES, wrong)
            if not has_noise:
                # Differences of unknown cause may be the mesh's noise.
                by_causes = replace(by_causes, high=self._bounds(_NAMED, _BESIDE_CAUSES, wrong).high)
            estimates["for causes that count against it"] = by_causes
        if not estimates:
            everything = self._bounds(_ALL, _ALL, wrong, less=1.0)
            estimates["over all differences"] = replace(everything, high=1.0)
        of, best = max(estimates.items(), key=lambda way: (way[1].users >= min_users, way[1].low))
        high = max(way.high if way.users >= _FEWEST else 1.0 for way in estimates.values())
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
                "`meshfold shadow compare` lists the causes"
            )
        else:
            decision = Decision.NOT_ENOUGH
            sentence = f"{figure}: up to {_plain(worst)} is possible, with {margin:g} allowed"
            if is_complete:
                sentence += f"; {self._remedy(bounds)}"
        if decision is Decision.NOT_ENOUGH and not is_complete:
            sentence += (
                "; no request was asked twice, so the mesh's own noise counts against the model: set "
                "comparison.noise_share"
            )
        return Reason(self._name, decision, sentence, bounds.value, bounds.low, bounds.high, -margin)

    def _remedy(self, bounds: Bounds) -> str:
        """Users that would settle it at the same estimate: bounds narrow with the square root of their number."""
        gap = abs(bounds.value + self._margin)
        width = (bounds.value - bounds.low) if bounds.value > -self._margin else (bounds.high - bounds.value)
        if gap <= width / 30:
            return "the figure is at the margin: more pairs may never settle it"
        return f"about {math.ceil(bounds.users * (width / gap) ** 2 / 100) * 100:,} users would settle it"


def _plain(loss: float) -> str:
    """The loss without a minus before zero."""
    return f"{round(loss, 4) + 0.0:.4f}"
