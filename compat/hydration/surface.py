"""Hydration of one surface: fills in requests from its source, counts lookups, and pauses a failing source."""

from __future__ import annotations

import asyncio
import bisect
import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from meshfold.compat.hydration.settings import Settings
from meshfold.compat.hydration.source import Failed, Reason, Source
from meshfold.model.errors import Unavailable, UnknownName
from meshfold.model.types import Query, User
from meshfold.service.front import Distribution, Sample

_log = logging.getLogger(__name__)

# Upper bounds of latency buckets in seconds, from a mapped file to a source in trouble.
_BOUNDS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
# Consecutive failures after which a source gets only one lookup every PAUSE_S seconds, until one succeeds.
_FAILURES, PAUSE_S = 10, 1.0
# Seconds between lines of the log about failures.
_LOG_S = 10.0
# Reasons with which the source itself works, but a value is useless.
_ANSWERED = (Reason.GARBAGE, Reason.LARGE)
_RESULTS = ("hit", "miss", "failed", "whole", "anonymous")


class HydratedSurface:
    """The implementation of Hydrate in service/hydration.py. Its methods run on the event loop."""

    def __init__(self, name: str, settings: Settings, source: Source) -> None:
        self._name = name
        self._settings = settings
        self.source = source
        self._asking = 0
        self._in_a_row = 0
        self._next_s = 0.0
        self._logged_s = float("-inf")
        self._results: Counter[str] = Counter()
        self._reasons: Counter[Reason] = Counter()
        self._cut = 0
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._total_s = 0.0

    async def hydrate(self, query: Query, deadline_s: float) -> Query:
        """See Hydrate.hydrate."""
        if self._is_whole(query):
            self._results["whole"] += 1
            return query
        # Without a user id there is nothing to look up.
        if not query.user_id:
            self._results["anonymous"] += 1
            return query
        start_s = time.monotonic()
        try:
            user = await self._ask(query.user_id, min(deadline_s - start_s, self._settings.deadline_s))
        except Failed as failed:
            self._failed(failed, query)
            return query
        finally:
            self._took(time.monotonic() - start_s)
        if user is None:
            self._results["miss"] += 1
            if self._is_refused(query):
                raise UnknownName(
                    f"nothing is kept of this user for the surface {self._name!r}; send a history with the request"
                )
            return query
        self._results["hit"] += 1
        return self._filled(query, user)

    def refused(self, came: Query) -> None:
        """See Hydrate.refused."""
        self._failed(Failed(Reason.UNFIT, "the model refuses what the source holds of a user"), came)

    def samples(self) -> Iterator[Sample | Distribution]:
        labels = {"surface": self._name}
        for result in _RESULTS:
            meaning = "Requests, by what became of filling in their user."
            yield Sample(
                "meshfold_hydrations", meaning, self._results[result], {**labels, "result": result}, True
            )
        for reason in Reason:
            meaning = "Lookups of users that failed."
            yield Sample(
                "meshfold_hydration_failures",
                meaning,
                self._reasons[reason],
                {**labels, "reason": reason},
                True,
            )
        meaning = "Histories of which the newest items were kept."
        yield Sample("meshfold_hydration_cut_histories", meaning, self._cut, labels, counts=True)
        yield Sample("meshfold_hydration_lookups", "Lookups of users on their way.", self._asking, labels)
        meaning = "How long lookups of users took."
        yield Distribution(
            "meshfold_hydration_seconds", meaning, _BOUNDS, list(self._counts), self._total_s, labels
        )
        yield from self.source.samples(self._name)

    def _is_whole(self, query: Query) -> bool:
        """Whether the query needs no filling in."""
        settings = self._settings
        if settings.replace:
            return False
        lacks_history = settings.history and not len(query.history)
        return not lacks_history and all(name in query.features for name in settings.features)

    async def _ask(self, user_id: int | str, within_s: float) -> User | None:
        """Looks a user up within a time. Raises Failed."""
        if self._asking >= self._settings.concurrency:
            raise Failed(
                Reason.FULL, f"{self._asking} lookups are on their way, as many as `concurrency` allows"
            )
        now_s = time.monotonic()
        if self._in_a_row >= _FAILURES:
            if now_s < self._next_s:
                raise Failed(Reason.PAUSED, "too many lookups in a row failed")
            self._next_s = now_s + PAUSE_S
        self._asking += 1
        try:
            async with asyncio.timeout(max(0.0, within_s)):
                user = await self.source.user(user_id)
            self._in_a_row = 0
            return user
        except TimeoutError:
            # A shorter deadline of the caller does not count as the source's failure.
            if within_s >= self._settings.deadline_s:
                self._in_trouble()
            raise Failed(Reason.LATE, f"no answer within {within_s:.3f} s") from None
        except Failed as failed:
            if failed.reason is Reason.DOWN:
                self._in_trouble()
            elif failed.reason in _ANSWERED:
                self._in_a_row = 0
            raise
        finally:
            self._asking -= 1

    def _in_trouble(self) -> None:
        self._in_a_row += 1
        if self._in_a_row == _FAILURES:
            self._next_s = time.monotonic() + PAUSE_S

    def _is_refused(self, query: Query) -> bool:
        """Whether a request that was not filled in is refused; never one with a history of its own."""
        return self._settings.miss == "error" and not (self._settings.history and len(query.history))

    def _failed(self, failed: Failed, query: Query) -> None:
        """Counts a failure. Raises Unavailable where the settings demand it."""
        if failed.reason is not Reason.UNFIT:
            # The lookup was counted as a hit.
            self._results["failed"] += 1
        self._reasons[failed.reason] += 1
        now_s = time.monotonic()
        if now_s - self._logged_s > _LOG_S:
            self._logged_s = now_s
            _log.warning(
                "users are not filled in: surface=%s reason=%s failures=%d: %s",
                *(self._name, failed.reason, self._reasons.total(), failed),
            )
        if self._is_refused(query):
            raise Unavailable(
                f"users of the surface {self._name!r} cannot be looked up ({failed.reason}); send a history with the"
                " request, or ask again"
            ) from None

    def _filled(self, query: Query, user: User) -> Query:
        """The query with the parts filled in that the settings name and the user has."""
        settings = self._settings
        history = query.history
        if settings.history and len(user.history) and (settings.replace or not len(history)):
            history = user.history[-settings.max_history :]
            self._cut += len(history) < len(user.history)
        features = dict(query.features)
        for name, values in user.features.items():
            if settings.takes(name) and (settings.replace or name not in features):
                features[name] = values
        if history is query.history and len(features) == len(query.features) and not settings.replace:
            return query
        return replace(query, history=history, features=features)

    def _took(self, seconds: float) -> None:
        self._counts[bisect.bisect_left(_BOUNDS, seconds)] += 1
        self._total_s += seconds
