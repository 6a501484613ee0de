"""The highest rate that a server keeps, found with servers whose rate is known."""

from __future__ import annotations

import numpy as np
import pytest

from meshfold.tools.bench_search import Search, Window, crossing, found_in, highest_rate


def window(rate_hz: float, late: int, calls: int = 1000, sent_late_ms: float = 0.0) -> Window:
    return Window(rate_hz, 5.0, calls, 0, late, 1.0, 2.0, 3.0, 0.1, sent_late_ms)


class Server:
    """Keeps rates up to `most_hz`; of calls beyond, half are late."""

    def __init__(self, most_hz: float, noise: float = 0.0) -> None:
        self.most_hz, self.noise = most_hz, noise
        self.asked: list[tuple[float, float]] = []
        self._random = np.random.default_rng(0)

    def __call__(self, rate_hz: float, seconds: float) -> Window:
        self.asked.append((rate_hz, seconds))
        most_hz = self.most_hz * (1 + self.noise * self._random.standard_normal())
        calls = int(rate_hz * seconds)
        return window(rate_hz, calls // 2 if rate_hz > most_hz else 0, calls)


@pytest.mark.parametrize("most_hz", [3.0, 10.0, 43.0, 1700.0])
def test_the_rate_of_a_steady_server_is_found(most_hz: float) -> None:
    found = highest_rate(Server(most_hz), Search())
    assert found.rate_hz == pytest.approx(most_hz, rel=0.05)
    assert found.low_hz <= found.rate_hz <= found.high_hz
    assert not found.reached_most


def test_a_server_that_wavers_is_found_with_an_interval() -> None:
    found = highest_rate(Server(43.0, noise=0.1), Search())
    assert found.rate_hz == pytest.approx(43.0, rel=0.25)
    assert found.low_hz < found.rate_hz


def test_a_rate_is_tried_twice_before_it_ends_the_rise() -> None:
    server = Server(1000.0)
    answers = iter([0, 500])  # the second window is disturbed, once

    def ask(rate_hz: float, seconds: float) -> Window:
        kept = server(rate_hz, seconds)
        late = next(answers, None)
        return window(rate_hz, late, 1000) if late else kept

    highest_rate(ask, Search(first_hz=100.0))
    assert [round(rate) for rate, _ in server.asked[:4]] == [100, 160, 160, 256]
    assert max(rate for rate, _ in server.asked) > 1000


def test_a_server_that_keeps_everything_is_told_so() -> None:
    found = highest_rate(Server(1e9), Search(first_hz=10.0, most_hz=50.0))
    assert (found.rate_hz, found.reached_most) == (50.0, True)


def test_a_server_that_keeps_nothing_has_no_rate() -> None:
    found = highest_rate(Server(0.0), Search(first_hz=10.0))
    assert (found.rate_hz, found.low_hz) == (0.0, 0.0)


def test_slow_rates_have_longer_windows() -> None:
    search = Search(window_s=5.0, least_calls=150, longest_s=15.0)
    assert [search.seconds(rate) for rate in (2.0, 12.0, 30.0, 1000.0)] == [15.0, 12.5, 5.0, 5.0]


def test_late_calls_are_made_to_grow_with_the_rate() -> None:
    # One unlucky window among kept ones does not end the rate there.
    windows = [window(10, 0), window(20, 20), window(30, 0), window(40, 0), window(50, 400)]
    assert 40 <= crossing(windows) < 50
    assert crossing([window(10, 20), window(20, 0)]) == pytest.approx(20)
    assert crossing([window(10, 500)]) == 0.0


def test_windows_whose_calls_were_sent_late_are_counted() -> None:
    found = found_in([window(10, 0, sent_late_ms=1.0), window(20, 0, sent_late_ms=30.0)])
    assert found.generator_was_late == 1
