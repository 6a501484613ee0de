"""The highest rate at which a server keeps its latency: steps, then bisection, in an open loop.

A rate is kept where at most 1 % of the calls fail or take longer than the limit, counted from the time at which a call
was due: the 99th percentile of latency, with failures as infinite, is within the limit. Each try of a rate is a window.
Rising rates are tried until one is missed twice; then rates between the last kept one and the first missed one; at last
rates around the result. The highest rate is where the share of late calls, made monotone over all windows (isotonic
regression, Barlow et al. 1972), crosses 1 %; its interval is a bootstrap over windows (Efron 1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from meshfold.model.progress import Progress, silent

# Largest share of late calls at a kept rate.
LATE = 0.01
# Milliseconds of delay, at the 99th percentile, from which a generator counts as late.
LATE_GENERATOR_MS = 5.0
_STEP = 1.6
_AROUND = (0.9, 1.0, 1.1)
_DRAWN, _INTERVAL = 1000, (0.025, 0.975)


@dataclass(frozen=True)
class Window:
    """Calls at one rate. late: number that failed or took longer than the limit. generator_cores: processors used by
    the generator. generator_late_ms: 99th percentile of the generator's delays."""

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


# Sends calls: (calls per second, seconds) -> the window.
Ask = Callable[[float, float], Window]


@dataclass(frozen=True)
class Search:
    """Settings of a search. first_hz, most_hz: lowest and highest rate. window_s: seconds of a window, longer up to
    longest_s to have least_calls. bisections: number of tries between the last kept and the first missed rate."""

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
    """The result of a search. rate_hz: highest kept rate; 0 where none is. low_hz, high_hz: its 95 % interval.
    reached_most: whether the search ended at its highest rate, so that the server may keep more."""

    rate_hz: float
    low_hz: float
    high_hz: float
    windows: tuple[Window, ...]
    reached_most: bool

    @property
    def generator_was_late(self) -> int:
        """The number of windows in which the generator was late."""
        return sum(window.generator_was_late for window in self.windows)


def highest_rate(ask: Ask, search: Search, progress: Progress = silent) -> Found:
    """Searches the highest kept rate. ask: runs a window."""
    windows: list[Window] = []
    most_windows = search.bisections + len(_AROUND)

    def kept(rate_hz: float) -> bool:
        windows.append(ask(rate_hz, search.seconds(rate_hz)))
        return windows[-1].kept

    low_hz, high_hz = 0.0, 0.0
    for rate_hz in _steps(search):
        progress(f"trying {rate_hz:.3g} a second", 0, 1)
        # A second try, since a disturbance of the machine is no limit of the server.
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
    """The highest kept rate by the windows of one or several searches."""
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
    """The rate at which the monotone share of late calls crosses LATE; 0 where it is always above, the highest rate
    where it is always below."""
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
