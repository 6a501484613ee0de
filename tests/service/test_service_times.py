from __future__ import annotations

import pytest

from meshfold.service.service_times import Expected, ServiceTimes

KIND = ("shop", "Retrieve")


def test_a_kind_that_never_ran_takes_its_price_and_at_most_twice() -> None:
    assert ServiceTimes().expected(KIND, 0.01) == Expected(0.01, 0.02)


def test_a_class_takes_what_it_took() -> None:
    times = ServiceTimes()
    for _ in range(50):
        times.observe(KIND, 0.01, 0.03)
    expected = times.expected(KIND, 0.01)
    assert expected.mean_s == pytest.approx(0.03)
    assert expected.mean_s <= expected.most_s < 0.0301
    # A price nearby is of the same class.
    assert times.expected(KIND, 0.0105) == expected


def test_nearly_all_stay_below_the_most() -> None:
    times = ServiceTimes()
    took_s = [0.01 + 0.001 * (n * 7 % 11) for n in range(200)]
    for seconds in took_s:
        times.observe(KIND, 0.01, seconds)
    expected = times.expected(KIND, 0.01)
    assert min(took_s) < expected.mean_s < max(took_s)
    assert sum(seconds <= expected.most_s for seconds in took_s) >= 0.95 * len(took_s)


def test_a_machine_that_changes_its_speed_is_followed() -> None:
    times = ServiceTimes()
    for _ in range(100):
        times.observe(KIND, 0.01, 0.01)
    times.observe(KIND, 0.01, 0.05)
    # One that was slow moves it by an eighth, and widens what is to be expected.
    assert times.expected(KIND, 0.01).mean_s == pytest.approx(0.015)
    assert times.expected(KIND, 0.01).most_s > 0.03
    for _ in range(100):
        times.observe(KIND, 0.01, 0.05)
    assert times.expected(KIND, 0.01).mean_s == pytest.approx(0.05, rel=1e-3)


def test_a_class_that_never_ran_is_as_slow_as_its_kind() -> None:
    times = ServiceTimes()
    for _ in range(50):
        times.observe(KIND, 0.01, 0.03)
    assert times.expected(KIND, 0.1).mean_s == pytest.approx(0.3)
    assert times.expected(KIND, 0.1).most_s == pytest.approx(0.6)
    # Another kind is not.
    assert times.expected(("shop", "Embed"), 0.1).mean_s == 0.1
    # And what it took itself counts from the first time on.
    times.observe(KIND, 0.1, 0.2)
    assert times.expected(KIND, 0.1).mean_s == pytest.approx(0.2)
    assert times.expected(KIND, 0.01).mean_s == pytest.approx(0.03)


def test_prices_of_nothing_are_told_apart_from_no_others() -> None:
    times = ServiceTimes()
    times.observe(KIND, 0.0, 0.001)
    assert times.expected(KIND, 0.0) == times.expected(KIND, 1e-9)
