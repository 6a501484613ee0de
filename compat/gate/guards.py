"""Guards that stop a model whatever its agreement: ineligible items, faults of its catalog and filter, and errors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from meshfold.compat.gate.confidence import Bounds, Wrong, mean_bounds
from meshfold.compat.gate.rare_events import Discordant, log_evidence
from meshfold.compat.gate.user_means import UserMeans
from meshfold.compat.gate.verdict import Decision, Reason

Int = NDArray[np.int64]


class Violations:
    """Items of the model's answers that the request's filter and exclusions do not admit."""

    def __init__(self, allowed: float) -> None:
        self._allowed = allowed
        self._means = UserMeans(1)
        self._count = self._of = self._unchecked = 0

    def add(self, user: int, count: int | None, known: int) -> None:
        """Adds an answer of the model. count: ineligible items; None if unknown. known: number of items checked."""
        if count is None:
            self._unchecked += 1
        elif known:
            self._count += count
            self._of += known
            self._means.add(user, 0, count / known)

    def reason(self, wrong_no: float, min_users: int) -> Reason:
        name, allowed = "violations", self._allowed
        unchecked = f"; {self._unchecked:,} answers could not be checked" if self._unchecked else ""
        if not self._of:
            sentence = (
                f"no answer of the model was checked against its filter{unchecked}; name a store whose "
            )
            return Reason(
                name, Decision.NOT_ENOUGH, f"{sentence}snapshot the model answers with", bound=allowed
            )
        bounds = mean_bounds(self._means.means(0), (0.0, 1.0), allowed or 0.001, Wrong(wrong_no, wrong_no))
        figures = (bounds.value, bounds.low, bounds.high, allowed)
        figure = f"{self._count:,} of {self._of:,} items of the model are not eligible{unchecked}"
        # If none is allowed, one ineligible item stops the model whatever the error rate.
        if self._count and (not allowed or bounds.low > allowed):
            remedy = "a report's examples show them: compare the filter, and the catalog's age"
            return Reason(
                name, Decision.NO, f"{figure}, with a share of {allowed:g} allowed; {remedy}", *figures
            )
        if bounds.users < min_users or bounds.value > allowed:
            why = f"{min_users:,} users are needed" if bounds.users < min_users else f"{allowed:g} is allowed"
            return Reason(name, Decision.NOT_ENOUGH, f"{figure}, of {bounds.users:,} users; {why}", *figures)
        return Reason(name, Decision.YES, figure, *figures)


class LostByCause:
    """The share of results that differ because of one fault of the model, over the sample of pairs for causes.

    A pair whose causes are not known may have lost nothing or all of its differences to that fault.
    """

    def __init__(self, name: str, words: str, stop: float, passes: float) -> None:
        """words: the cause as it reads in a sentence."""
        self._name, self._words = name, words
        self._stop, self._pass = stop, passes
        self._means = UserMeans(2)
        self._unknown = 0

    def add(self, user: int, least: float, most: float) -> None:
        """Adds a pair. least, most: bounds on the share lost to the cause; equal if causes are known."""
        self._means.add(user, 0, least)
        self._means.add(user, 1, most)
        self._unknown += least < most

    def reason(self, wrong_yes: float, wrong_no: float, min_users: int) -> Reason:
        wrong = Wrong(wrong_no, wrong_yes)
        least, most = (
            mean_bounds(self._means.means(place), (0.0, 1.0), self._pass, wrong) for place in (0, 1)
        )
        if not least.users:
            return Reason(
                self._name, Decision.NOT_ENOUGH, "no pair has answers of both sides yet", bound=self._stop
            )
        figure = f"{least.value:.3%} of results differ by {self._words}"
        if self._unknown:
            figure += (
                f" for certain ({self._unknown:,} pairs have no known causes: they need whole requests, "
                "comparison.keep_requests, and a store)"
            )
        remedy = "`meshfold shadow compare` lists the items"
        bounds = replace(least, high=most.high)
        return _within(self._name, bounds, self._stop, self._pass, figure, remedy, min_users)


class Errors:
    """Requests that the model fails and the mesh answers, minus the reverse."""

    def __init__(self, stop: float, passes: float) -> None:
        self._stop, self._pass = stop, passes
        self._means = UserMeans(1)
        self._model = self._mesh = self._others = 0
        self._settled: set[int] = set()

    def add(self, user: int, model_failed: bool, mesh_failed: bool) -> None:
        self._means.add(user, 0, float(model_failed) - float(mesh_failed))
        self._bet(user, model_failed - mesh_failed)

    def add_many(self, users: Int, model_failed: NDArray[np.bool_], mesh_failed: NDArray[np.bool_]) -> None:
        """The same as `add` for each request. [N] each."""
        outcomes = model_failed.astype(np.int64) - mesh_failed
        self._means.add_many(users, 0, outcomes.astype(np.float64))
        for user, outcome in zip(users.tolist(), outcomes.tolist(), strict=True):
            self._bet(user, outcome)

    def reason(self, wrong_yes: float, wrong_no: float, min_users: int) -> Reason:
        # Two tests can stop the model: bets, which notice few errors soon, and means over all requests of users.
        by_means, by_bets = 0.1 * wrong_no, 0.9 * wrong_no
        bounds = mean_bounds(self._means.means(0), (-1.0, 1.0), self._pass, Wrong(by_means, wrong_yes))
        if not bounds.users:
            return Reason(
                "errors", Decision.NOT_ENOUGH, "no request has answers of both sides yet", bound=self._stop
            )
        figure = f"the model fails {bounds.value:.3%} of requests more than the mesh"
        seen = Discordant(self._model, self._mesh, self._others)
        if log_evidence(seen, self._stop) >= -math.log(by_bets):
            sentence = (
                f"{figure}: surely over {self._stop:.3%}: {seen.model:,} users had a request that the model alone "
                f"failed ({seen.mesh:,} one that the mesh alone failed); the statuses of those pairs show why"
            )
            figures = (bounds.value, max(bounds.low, self._stop), bounds.high, self._stop)
            return Reason("errors", Decision.NO, sentence, *figures)
        return _within("errors", bounds, self._stop, self._pass, figure, "the statuses show why", min_users)

    def _bet(self, user: int, outcome: int) -> None:
        if user in self._settled:
            return
        if not outcome:
            self._others += 1
            return
        self._settled.add(user)
        self._model += outcome > 0
        self._mesh += outcome < 0


def _within(
    name: str, bounds: Bounds, stop: float, passes: float, figure: str, remedy: str, min_users: int
) -> Reason:
    """The reason for a share: NO if it is surely above `stop`, YES if it is surely below `passes`."""
    figure = f"{figure}, over {bounds.users:,} users"
    if bounds.users < min_users:
        decision, bound = Decision.NOT_ENOUGH, passes
        sentence = f"{figure}; {min_users:,} users are needed"
    elif bounds.low > stop:
        decision, bound = Decision.NO, stop
        sentence = f"{figure}: surely over {bounds.low:.3%}, with {stop:.3%} allowed; {remedy}"
    elif bounds.high < passes:
        decision, bound = Decision.YES, passes
        sentence = f"{figure}: surely below {bounds.high:.3%}, and {passes:.3%} would pass"
    else:
        decision, bound = Decision.NOT_ENOUGH, passes
        sentence = (
            f"{figure}: {bounds.high:.3%} is possible, and below {passes:.3%} passes; more users are needed"
        )
    return Reason(name, decision, sentence, bounds.value, bounds.low, bounds.high, bound)
