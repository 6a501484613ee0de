"""How surfaces fare, in a word: what is bad is told first, and why."""

from __future__ import annotations

import re

import pytest

from meshfold.compat.live_page.facts import PageFacts, SurfaceFacts
from meshfold.compat.live_page.judgement import Level, judge
from meshfold.compat.live_page.view import MOST_SURFACES, page_view, surface_page_view
from meshfold.compat.migration.modes import Change, Kind, Mode
from meshfold.compat.ramp.status import State
from meshfold.compat.shadow.live.tally import Tally
from tests.compat.live_page.page_world import (
    NOW_MS,
    failing,
    many,
    quiet,
    ramped,
    surface,
    unknown_noise,
    violating,
)

SPAN = "in the last 15 minutes"


def slow() -> SurfaceFacts:
    made = surface("slow")
    made.now.latencies["model"].clear()
    made.now.latencies["model"][60] = 500
    return made


def few() -> SurfaceFacts:
    made = surface("few")
    del made.now.recent["noise_width"]
    return made


def wide() -> SurfaceFacts:
    made = surface("wide")
    made.now.recent["noise_width"] = 0.1
    return made


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (surface("good"), Level.GOOD, "No difference beyond the margin of 2 points."),
        (surface("less", overlap=0.88), Level.BAD, "beyond the margin of 2 points"),
        (
            violating("kids"),
            Level.BAD,
            "412 of 1,147,312 items of the model violate the request's filter, in the last",
        ),
        (failing("live"), Level.BAD, "The model failed in 2.5% of the pairs, the mesh in under 0.1%"),
        (ramped("feed", State.FALLEN_BACK), Level.BAD, "The ramp fell back to mirror: the gate said no"),
        (ramped("feed", State.PAUSED), Level.CHECK, "The ramp is paused: ines paused it"),
        (ramped("feed"), Level.GOOD, "No difference beyond the margin"),
        (unknown_noise("t"), Level.CHECK, "How far the mesh differs from itself is not known yet"),
        (few(), Level.CHECK, "Too few users were asked twice"),
        (wide(), Level.CHECK, "not sure yet to be within the margin"),
        (slow(), Level.CHECK, "The model is slow: its p99 is 1,059 ms"),
        (quiet("mesh"), Level.NO_DATA, "in mode mesh the mesh alone is asked"),
        (quiet("only", Kind.ONLY), Level.NO_DATA, "in mode only the model alone is asked"),
        (quiet("mirror", Kind.MIRROR), Level.NO_DATA, "No pairs in the last 15 minutes"),
    ],
)
def test_a_level_and_why(facts: SurfaceFacts, level: Level, words: str) -> None:
    judgement = judge(facts, SPAN)
    assert judgement.level is level
    assert words in " ".join(judgement.sentences)


def test_what_a_gate_says_no_to_is_bad_before_the_ramp_acts() -> None:
    fallen = ramped("feed", State.FALLEN_BACK)
    assert fallen.ramp is not None
    running = ramped("feed")
    assert running.ramp is not None
    from dataclasses import replace

    judged = judge(replace(running, ramp=replace(running.ramp, verdict=fallen.ramp.verdict)), SPAN)
    assert judged.level is Level.BAD
    assert judged.sentences[0].startswith("The gate says no: The model shares 86.1%")


def test_one_failure_among_many_is_an_accident() -> None:
    made = surface("home")
    made.now.pairs.clear()
    made.now.pairs.update(compared=20, model_failed=1)
    assert judge(made, SPAN).level is not Level.BAD
    made.now.pairs.update(model_failed=1)
    assert judge(made, SPAN).level is Level.BAD


def test_the_worst_stands_first_and_the_headline_names_it() -> None:
    view = page_view(PageFacts(many(), NOW_MS, "", SPAN))
    names = [each.name for each in view.surfaces]
    # The one that lost most, then by how much they lost.
    assert names[:4] == ["new-releases", "search", "kids", "live-tv"]
    assert view.headline.startswith("4 of 19 surfaces are bad: new-releases, search, kids and 1 more")
    assert view.title.startswith("✕ 4 bad")
    assert view.lead.startswith("new-releases: The ramp fell back")
    levels = [each.mark.word for each in view.surfaces]
    assert levels == sorted(levels, key=["Bad", "Check", "Good", "No data"].index)
    assert set(names[-2:]) == {"charts", "editorial"}


def test_a_page_says_how_many_surfaces_it_leaves_out() -> None:
    view = page_view(
        PageFacts([surface(f"s{n}", minutes=1) for n in range(MOST_SURFACES + 7)], NOW_MS, "", SPAN)
    )
    assert (len(view.surfaces), view.left_out) == (MOST_SURFACES, 7)
    assert view.headline == f"No surface is bad: {MOST_SURFACES + 7} good"
    assert page_view(PageFacts([], NOW_MS, "", SPAN)).headline == "No surface is compared yet"


def test_a_ramp_shows_its_steps_its_gate_and_its_decisions_once() -> None:
    facts = ramped("feed")
    more = surface_page_view(facts, PageFacts([facts], NOW_MS, "", SPAN))
    assert more.ramp is not None
    assert [place for _, place in more.ramp.steps] == ["before"] * 3 + ["now"] + ["after"] * 2
    assert [(m.word, m.style) for m, _ in more.ramp.reasons][0] == ("yes", "good")
    # The change of the mode that the ramp's decision made is not told again; the operator's before it is.
    assert [d.what for d in more.decisions] == ["promote: canary 5 % to canary 25 %", "canary 25 %"]
    assert [d.who for d in more.decisions] == ["gate", "ines"]


def test_a_kill_is_told_as_one() -> None:
    kill = Change("", Mode(Kind.MESH), "ines", "pager", NOW_MS, kill=True)
    facts = SurfaceFacts("feed", Tally(), mode=Mode(Kind.MESH), changes=[kill])
    (decision,) = surface_page_view(facts, PageFacts([facts], NOW_MS, "", SPAN)).decisions
    assert (decision.what, decision.who, decision.why) == ("all surfaces to the mesh", "ines", "pager")


def test_charts_have_words_and_leave_gaps() -> None:
    facts = surface("home")
    facts = SurfaceFacts("home", facts.now, [*facts.points[:20], *facts.points[200:]], facts.mode)
    agreement, latency, pairs = surface_page_view(facts, PageFacts([facts], NOW_MS, "", SPAN)).charts
    assert re.search(
        r'aria-label="Agreement over time: last values: mesh and itself 0\.9\d+, model and', agreement.svg
    )
    path = re.findall(r'class="line of-model" d="([^"]*)"', agreement.svg)[0]
    assert path.count("M") == 2
    assert path.count("L") == len(facts.points) - 2
    assert latency.svg.count('class="line') == 8
    assert "NaN" not in agreement.svg + latency.svg + pairs.svg
