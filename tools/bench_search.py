"""The highest rate at which a server keeps its latency: steps, then bisection, in an open loop.

A rate is kept where at most 1 % of the calls fail or take longer than the limit, counted from when a call should have
started; that is where the 99th percentile of latency, failures counted as endless, is within the limit. Each try of a
rate is a window. Rising rates are tried until one is not kept twice; then rates between the last that was kept and the
first that was not; at last rates around what that gives. The highest rate is where the share of late calls, made
monotone over all windows (Barlow et al. 1972, isotonic regression), crosses 1 %; its interval is that of windows drawn
again (Efron 1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from meshfold.model.progress import Progress, silent

# Of the calls of a rate that is kept, how many may be late.
LATE = 0.01
# A generator that sends later than this, at its 99th percentile, says so.
LATE_GENERATOR_MS = 5.0
_STEP = 1.6
_AROUND = (0.9, 1.0, 1.1)
_DRAWN, _INTERVAL = 1000, (0.025, 0.975)


@dataclass(frozen=True)
class Window:
    """Calls at one rate. late: that failed or took longer than the limit. generator_cores: processors that sending them
    took. generator_late_ms: how much later than due calls were sent, the 99th percentile."""

    rate_hz: float
    seconds: float
    calls: int
    failed: int
    late: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    generator_cores: float
    generator_late_ms: float

    @property
    def answered(self) -> int:
        return self.calls - self.failed

    @property
    def kept(self) -> bool:
        return self.late <= LATE * self.calls

    @property
    def generator_was_late(self) -> bool:
        return self.generator_late_ms > LATE_GENERATOR_MS


# (rate in calls a second, seconds) -> what came of it.
Ask = Callable[[float, float], Window]


@dataclass(frozen=True)
class Search:
    """first_hz, most_hz: the rates between which is searched. window_s: of a window, longer where that would be fewer
    than least_calls, at most longest_s. bisections: between the last rate that was kept and the first that was not."""

    first_hz: float = 2.0
    most_hz: float = 20_000.0
    window_s: float = 5.0
    least_calls: int = 150
    longest_s: float = 15.0
    bisections: int = 4

    def seconds(self, rate_hz: float) -> float:
        return max(self.window_s, min(self.least_calls / rate_hz, self.longest_s))


@dataclass(frozen=True)
class Found:
    """rate_hz: the highest that is kept; 0 where none is. low_hz, high_hz: its 95 % interval. reached_most: whether the
    search ended at its highest rate, so that the server may keep more."""

    rate_hz: float
    low_hz: float
    high_hz: float
    windows: tuple[Window, ...]
    reached_most: bool

    @property
    def generator_was_late(self) -> int:
        """In how many windows the generator did not send when calls were due."""
        return sum(window.generator_was_late for window in self.windows)


def highest_rate(ask: Ask, search: Search, progress: Progress = silent) -> Found:
    """Searches with `ask`."""
    windows: list[Window] = []
    most_windows = search.bisections + len(_AROUND)

    def kept(rate_hz: float) -> bool:
        windows.append(ask(rate_hz, search.seconds(rate_hz)))
        return windows[-1].kept

    low_hz, high_hz = 0.0, 0.0
    for rate_hz in _steps(search):
        progress(f"trying {rate_hz:.3g} a second", 0, 1)
        # What else the machine did for a moment is no limit of the server.
        if not (kept(rate_hz) or kept(rate_hz)):
            high_hz = rate_hz
            break
        low_hz = rate_hz
    if high_hz:
        for done in range(search.bisections):
            progress("bisecting", done, most_windows)
            rate_hz = math.sqrt(low_hz * high_hz) if low_hz else high_hz / 2
            low_hz, high_hz = (rate_hz, high_hz) if kept(rate_hz) else (low_hz, rate_hz)
        for done, factor in enumerate(_AROUND):
            progress("bisecting", search.bisections + done, most_windows)
            kept(factor * crossing(windows) or high_hz / 2)
        progress("bisecting", most_windows, most_windows)
    return found_in(windows, reached_most=not high_hz)


def found_in(windows: Sequence[Window], reached_most: bool = False) -> Found:
    """The highest rate that windows say is kept, of one search or several."""
    random = np.random.default_rng(0)
    drawn = [
        crossing([windows[place] for place in random.integers(0, len(windows), len(windows))])
        for _ in range(_DRAWN)
    ]
    low_hz, high_hz = np.quantile(drawn, _INTERVAL)
    rate_hz = crossing(windows)
    return Found(
        rate_hz, min(float(low_hz), rate_hz), max(float(high_hz), rate_hz), tuple(windows), reached_most
    )


def crossing(windows: Sequence[Window]) -> float:
    """The rate at which the share of late calls, which only grows with the rate, passes LATE; 0 where it is always
    above, the highest rate where it never is."""
    rates = np.array(sorted({window.rate_hz for window in windows}))
    late, calls = np.zeros(len(rates)), np.zeros(len(rates))
    for window in windows:
        place = np.searchsorted(rates, window.rate_hz)
        late[place] += window.late
        calls[place] += window.calls
    shares = isotonic_regression(late / np.maximum(calls, 1), weights=np.maximum(calls, 1)).x
    above = np.flatnonzero(shares > LATE)
    if not len(above):
        return float(rates[-1])
    first = int(above[0])
    if first == 0:
        return 0.0
    part = (LATE - shares[first - 1]) / (shares[first] - shares[first - 1])
    return float(rates[first - 1] + part * (rates[first] - rates[first - 1]))


def _steps(search: Search) -> Iterator[float]:
    rate_hz = search.first_hz
    while rate_hz < search.most_hz:
        yield rate_hz
        rate_hz *= _STEP
    yield search.most_hz
