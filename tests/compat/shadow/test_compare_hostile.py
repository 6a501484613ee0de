"""Whatever others wrote is compared: without an exception, a warning or a number that is not there."""

from __future__ import annotations

import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshfold.compat.shadow.compare import compare
from meshfold.compat.shadow.compare_settings import CompareSettings, MeasureSettings
from meshfold.compat.shadow.pair_measures import MEASURES
from meshfold.compat.shadow.pairs import Pair, SideAnswer

FLOATS = st.one_of(
    st.floats(), st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-9, math.nan, math.inf, 1e308, 5e-324])
)
ITEMS = st.one_of(
    st.lists(st.integers(0, 8), max_size=6), st.lists(st.sampled_from(["a", "b", "\ud800", ""]), max_size=6)
)


@st.composite
def side_answers(draw: st.DrawFn) -> SideAnswer:
    items = draw(ITEMS)
    size = len(items) if draw(st.integers(0, 4)) else draw(st.integers(0, 8))
    scores = draw(st.lists(FLOATS, min_size=size, max_size=size))
    status = draw(st.sampled_from(["OK", "OK", "OK", "UNAVAILABLE"]))
    return SideAnswer(tuple(items), tuple(scores), status, draw(FLOATS))  # type: ignore[arg-type]


PAIRS = st.builds(
    Pair,
    request_id=st.text(max_size=3),
    surface=st.sampled_from(["", "home"]),
    user_key=st.sampled_from(["", "u", "v", "w"]),
    unix_ms=st.integers(-(2**63), 2**63 - 1),
    mesh=st.one_of(st.none(), side_answers()),
    model=st.one_of(st.none(), side_answers()),
    again=st.one_of(st.none(), side_answers()),
    max_results=st.integers(0, 9),
    slices=st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PAIRS, max_size=12))
def test_any_pairs_are_compared(pairs: list[Pair]) -> None:
    told = compare(pairs, settings=CompareSettings(MeasureSettings(tau_share=1), resamples=100, min_users=2))
    assert sum(surface.pairs for surface in told.surfaces) == len(pairs)
    for surface in told.surfaces:
        for figure in surface.figures:
            value = figure.difference.value
            assert not math.isinf(value)
            if figure.name in MEASURES[:13]:
                assert math.isnan(value) or -1e-9 <= value <= 1 + 1e-9
