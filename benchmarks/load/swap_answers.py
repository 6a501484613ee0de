"""Answers that callers noted, compared with what versions answer offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.load.swap_callers import digest_of
from benchmarks.load.swap_world import SwapWorld

# Seconds after a denial in which an answer that was under way may still have the items.
GRACE_S = 1.0
Calls = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Denial:
    """start_s, end_s: of the call, on time.monotonic()'s clock."""

    start_s: float
    end_s: float
    item_ids: tuple[str, ...]


class Answers:
    """states: what is denied before the first denial, after it, and so on."""

    def __init__(self, world: SwapWorld, denials: Sequence[Denial]) -> None:
        self._denials = denials
        # (request, digest) -> the versions that answer so, in each state.
        self._states: list[dict[tuple[int, int], set[int]]] = []
        denied: list[str] = []
        for ids in ((), *(denial.item_ids for denial in denials)):
            denied += ids
            state: dict[tuple[int, int], set[int]] = {}
            for version, answers in enumerate(world.offline(denied)):
                for request, answer in enumerate(answers):
                    state.setdefault((request, digest_of(answer)), set()).add(version)
            self._states.append(state)

    def mixed(self, calls: Calls) -> int:
        """Answers that no version gives offline under what may have been in effect."""
        return sum(
            not any(key in self._states[s] for s in states) for key, _, states in self._answered(calls)
        )

    def denied_seen(self, calls: Calls) -> int:
        """Answers as of before a denial, to calls that were sent more than GRACE_S after it. An answer without any
        of the denied items is the same before and after."""
        return sum(
            not any(key in self._states[s] for s in states)
            and any(key in state for state in self._states[: states[0]])
            for key, _, states in self._answered(calls)
        )

    def strayed(self, calls: Calls, pinned: Sequence[tuple[float, float, int]]) -> int:
        """Answers of another version than the pinned, to calls sent while it was. pinned: (from, to, version)."""
        found = 0
        for key, (sent_s, end_s), states in self._answered(calls):
            for start_s, stop_s, version in pinned:
                if start_s <= sent_s and end_s <= stop_s:
                    found += not any(version in self._states[s].get(key, ()) for s in states)
        return found

    def _answered(self, calls: Calls) -> list[tuple[tuple[int, int], tuple[float, float], list[int]]]:
        """((request, digest), (sent, answered), the states that may have been in effect) of each answer."""
        columns = ("request", "digest", "sent_s", "end_s", "code")
        answered = []
        for request, digest, sent_s, end_s, code in zip(*(calls[c].tolist() for c in columns), strict=True):
            if code == 0:
                surely = sum(sent_s > denial.end_s + GRACE_S for denial in self._denials)
                maybe = sum(end_s >= denial.start_s for denial in self._denials)
                answered.append(((request, digest), (sent_s, end_s), list(range(surely, maybe + 1))))
        return answered
