from __future__ import annotations

import math
from dataclasses import replace

import pytest

from meshfold.compat.shadow.compare import compare
from meshfold.compat.shadow.comparison import Cause, Comparison, Figure, Interval, Rate, SurfaceComparison
from meshfold.compat.shadow.pairs import Pair, PairSide, SideAnswer
from meshfold.compat.shadow.report.as_json import from_json, to_json
from meshfold.compat.shadow.report.headline import headline
from meshfold.compat.shadow.report.summary import MOST_SURFACES, summary
from meshfold.compat.shadow.report.texts import clean, number, of_depth, percent, period
from meshfold.compat.shadow.report.words import (
    CAUSES,
    MEASURES,
    RATES,
    SIDES,
    cause_words,
    figure_label,
    measure_of,
)
from tests.compat.shadow.made_comparison import HOSTILE_TEXT, hostile, made, made_surface


def with_overlap(difference: float, noise: Interval | None, excess: Interval | None) -> SurfaceComparison:
    figure = Figure("overlap@100", Interval(difference, math.nan, math.nan), noise, excess, 10, 5, 5)
    return replace(made_surface("home", examples=0), figures=(figure,))


def test_a_headline_tells_agreement_noise_and_what_is_beyond() -> None:
    told = headline(made_surface("home", examples=0))
    assert told.title == "Model and mesh share 91 of 100 results; the mesh shares 94 with itself."
    assert told.verdict == (
        "Beyond the mesh's own noise, the model differs in 2.9 of 100 results (95% interval 2.3 to 3.5)."
    )
    assert told.more == (
        "Items that the filter does not admit: the mesh 37. Answers with an error: the mesh 3.",
        "Causes of 6,085 differences: mesh's search missed it 48%, model's search missed it 22%, tie 20%.",
        "Worst slice: history = 0, with an overlap 7.6 points below the others'.",
    )


@pytest.mark.parametrize(
    ("excess", "expected"),
    [
        (
            Interval(-0.02, -0.03, -0.01),
            "Beyond the mesh's own noise, the model differs in 2.0 of 100 results",
        ),
        (
            Interval(-0.01, -0.03, 0.01),
            "No difference beyond the mesh's own noise is shown: -1.0 of 100 results",
        ),
        (
            Interval(0.02, 0.01, 0.03),
            "The model agrees with the mesh better than the mesh with itself, by 2.0",
        ),
        (Interval(-0.02, math.nan, math.nan), "The model shares 2.0 of 100 results fewer than the mesh does"),
        (Interval(math.nan, math.nan, math.nan), "The mesh was not asked twice."),
        (None, "The mesh was not asked twice."),
    ],
)
def test_a_verdict_follows_from_the_interval(excess: Interval | None, expected: str) -> None:
    told = headline(with_overlap(0.9, Interval(0.92, 0.9, 0.94), excess))
    assert told.verdict.startswith(expected)


def test_a_headline_counts_no_more_results_than_answers_have() -> None:
    surface = replace(with_overlap(0.9, None, None), curve=((1, 0.9, math.nan), (20, 0.9, math.nan)))
    assert headline(surface).title == "Model and mesh share 18 of 20 results."


def test_nothing_measured_is_said() -> None:
    surface = made_surface("home", examples=0)
    assert headline(replace(surface, figures=())).title == "Agreement was not measured."
    assert headline(replace(surface, pairs=0)).title == "No pairs were compared."


@pytest.mark.parametrize(
    ("share", "depth", "expected"),
    [
        (0.912, 100, "91"),
        (1.0, 100, "100"),
        (0.9999, 100, "over 99.9"),
        (0.994, 100, "99.4"),
        (0.0, 100, "0"),
        (0.91, 10, "9.1"),
        (math.nan, 100, "–"),
    ],
)
def test_a_share_as_a_count_hides_no_difference(share: float, depth: int, expected: str) -> None:
    assert of_depth(share, depth) == expected


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, "0.0%"),
        (1.0, "100.0%"),
        (0.99999, "over 99.9%"),
        (0.00001, "under 0.1%"),
        (math.nan, "–"),
        (math.inf, "∞"),
    ],
)
def test_a_percentage_is_neither_all_nor_nothing_where_it_is_not(share: float, expected: str) -> None:
    assert percent(share) == expected


def test_numbers_have_as_many_digits_as_say_something() -> None:
    assert [number(value) for value in (0.0, 0.12345, 8.3149, 12345.6, 1e-9, math.nan, -math.inf)] == [
        "0",
        "0.123",
        "8.315",
        "12,346",
        "1.0e-09",
        "–",
        "-∞",
    ]


def test_a_period_out_of_the_calendar_is_left_out() -> None:
    assert period(0, 0) == ""
    assert period(1, 10**18) == ""
    assert period(1_796_000_000_000, 1_796_000_600_000) == "2026-11-30 00:53 to 01:03 UTC"


def test_text_of_others_becomes_one_line_that_can_be_written() -> None:
    text = clean(HOSTILE_TEXT, 500)
    assert len(text) == 500
    text.encode()
    assert not {"\n", "\r", "\x00", "\x1b", "\u202e", "\u2069"} & set(text)
    assert "\U0001f468\u200d\U0001f469\u200d\U0001f467" in text
    assert clean("short", 5) == "short"


def test_every_cause_and_measure_has_words() -> None:
    assert set(CAUSES) == set(Cause)
    assert set(SIDES) == set(PairSide)
    assert cause_words("no such cause").name == "No such cause"
    assert figure_label("overlap@100") == "Overlap, first 100"
    assert figure_label("overlap@K") == "Overlap, all results"
    assert figure_label("latency_difference_ms") == "Difference in latency"
    assert figure_label("noise overlap@K") == "Overlap, all results, mesh and itself"
    assert measure_of("noise overlap@K") == MEASURES["overlap"]
    assert figure_label("some_new_measure@7") == "Some new measure, first 7"
    assert measure_of("rbo").meaning


def test_what_is_compared_has_words_and_a_summary() -> None:
    """Names of figures and rates are those that `compare` gives."""
    pairs = [pair_of(number) for number in range(60)]
    comparison = compare(pairs)
    (surface,) = comparison.surfaces
    assert {measure_of(figure.name) for figure in surface.figures} <= set(MEASURES.values())
    assert {rate.name for rate in surface.rates} <= RATES.keys()
    lines = summary(from_json(to_json(comparison))).splitlines()
    assert "  Model and mesh share 18 of 20 results; the mesh shares 19 with itself." in lines
    assert any(line.startswith("  Rank-biased overlap") for line in lines)


def pair_of(number: int) -> Pair:
    """Of 20 results the model shares 18 with the mesh, and the mesh 19 with itself."""

    def answer(items: list[int]) -> SideAnswer:
        # No item of one answer alone has the value of another: it would be a tie.
        scores = tuple(1.0 - place / 100 - (0.001 if item < 0 else 0) for place, item in enumerate(items))
        return SideAnswer(tuple(items), scores, latency_ms=5.0 + number)

    items = list(range(1000 * number, 1000 * number + 20))
    return Pair(
        f"r{number}",
        "home",
        f"u{number % 30}",
        1_796_000_000_000 + number,
        mesh=answer(items),
        model=answer([*items[:18], -1, -2]),
        again=answer([*items[:19], -3]),
        max_results=20,
    )


def test_a_summary_fits_a_screen() -> None:
    lines = summary(made()).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    assert lines[0] == "5,000 pairs, 2026-11-30 00:53 to 2026-12-01 00:46 UTC"
    assert "home: 5,000 pairs of 1,000 users, 1,200 of them asked again" in lines
    assert any("Overlap, first 100" in line and "91.2%" in line and "-2.9 points" in line for line in lines)
    assert any("Documentary" in line and "0.58x" in line for line in lines)


def test_a_summary_of_many_surfaces_says_how_many_are_left_out() -> None:
    names = tuple(f"surface {i}" for i in range(MOST_SURFACES + 3))
    assert summary(made(names, examples=0)).endswith("3 more surfaces in the report.")


def test_a_summary_of_no_pairs_says_so_and_counts_what_was_left_out() -> None:
    assert summary(Comparison((), counted={"one side only": 3})).splitlines() == [
        "0 pairs",
        "left out, or unusual: one side only 3",
        "There are no pairs to compare: no request has answers of both sides.",
    ]


def test_a_summary_holds_nothing_that_a_terminal_obeys() -> None:
    text = summary(hostile(HOSTILE_TEXT))
    assert all(line.isprintable() for line in text.split("\n"))
    text.encode()


def test_violations_of_the_model_are_told() -> None:
    surface = made_surface("home", examples=0)
    rates = (Rate("violations", "mesh", 0, 10, 0.0, 0.3), Rate("violations", "model", 2, 10, 0.1, 0.5))
    assert headline(replace(surface, rates=rates)).more[0] == (
        "Items that the filter does not admit: the model 2."
    )
    assert headline(replace(surface, rates=rates[:1])).more[0] == "No item violates a filter."
