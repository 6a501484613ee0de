"""Facts as the templates show them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from meshfold.compat.live_page.charts import Scale
from meshfold.compat.live_page.facts import PageFacts, SurfaceFacts
from meshfold.compat.live_page.judgement import (
    Judgement,
    Level,
    excess_of,
    failed_share,
    fails_too_often,
    is_slow,
    judge,
    lost_too_much,
)
from meshfold.compat.live_page.over_time import ChartView, charts, small_line, small_scale
from meshfold.compat.live_page.ramp_view import (
    NAME_CHARACTERS,
    SENTENCE_CHARACTERS,
    DecisionView,
    Mark,
    RampView,
    decisions_view,
    ramp_view,
    ramp_words,
)
from meshfold.compat.shadow.live.latency_steps import quantile_ms
from meshfold.compat.shadow.live.tally import Tally
from meshfold.compat.shadow.report.texts import NONE, clean, count, milliseconds, moment, percent

PATH = "/shadow"
# Surfaces on one page at most; the worst are shown.
MOST_SURFACES = 100
# Words for a surface that is the only one.
_ALONE = {
    Level.BAD: "is bad",
    Level.CHECK: "is to be checked",
    Level.GOOD: "is good",
    Level.NO_DATA: "has no data",
}
_MOST_SENTENCES = 3
# Sign before a level's name, so that colour is not the only difference.
_SIGNS = {Level.BAD: "✕", Level.CHECK: "!", Level.GOOD: "✓", Level.NO_DATA: "–"}
_NAMES = {Level.BAD: "Bad", Level.CHECK: "Check", Level.GOOD: "Good", Level.NO_DATA: "No data"}


@dataclass(frozen=True)
class Tile:
    """One figure. what: its name; short: the same in a word or two. more: a second figure. is_bad: out of bounds."""

    what: str
    short: str
    value: str
    more: str = ""
    is_bad: bool = False


@dataclass(frozen=True)
class SurfaceView:
    name: str
    link: str
    mark: Mark
    sentences: tuple[str, ...]
    mode: str
    ramp_words: str
    spark: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class SurfacePageView:
    """The content of a surface's own page, beside its SurfaceView."""

    charts: tuple[ChartView, ...]
    ramp: RampView | None
    decisions: tuple[DecisionView, ...]


@dataclass(frozen=True)
class PageView:
    """All surfaces. title: of the tab. lead: the worst surface's sentence. left_out: number of surfaces not shown."""

    title: str
    headline: str
    lead: str
    about: str
    when: str
    troubles: tuple[str, ...]
    notes: tuple[str, ...]
    surfaces: tuple[SurfaceView, ...]
    left_out: int


def page_view(facts: PageFacts) -> PageView:
    judged = sorted(
        ((judge(each, facts.span), each) for each in facts.surfaces),
        key=lambda entry: (list(Level).index(entry[0].level), _agrees(entry[1]), entry[1].name),
    )
    shown = judged[:MOST_SURFACES]
    bad = [each for judgement, each in judged if judgement.level is Level.BAD]
    # One scale for all surfaces, so that their lines can be compared.
    scale = small_scale(each for _, each in shown)
    surfaces = tuple(_surface(judgement, each, facts, scale) for judgement, each in shown)
    headline = _headline(judged, bad)
    return PageView(
        title=f"✕ {len(bad)} bad · Shadow" if bad else "Shadow",
        headline=headline,
        lead=_lead(surfaces),
        about=clean(facts.about, SENTENCE_CHARACTERS),
        when=moment(facts.unix_ms),
        troubles=tuple(clean(each, SENTENCE_CHARACTERS) for each in facts.troubles),
        notes=(
            *(clean(each, SENTENCE_CHARACTERS) for each in facts.notes),
            *_left_out(facts),
        ),
        surfaces=surfaces,
        left_out=len(judged) - len(shown),
    )


def surface_view(each: SurfaceFacts, facts: PageFacts) -> SurfaceView:
    return _surface(judge(each, facts.span), each, facts, small_scale([each]))


def surface_page_view(each: SurfaceFacts, facts: PageFacts) -> SurfacePageView:
    return SurfacePageView(
        charts=charts(each.points, facts.unix_ms / 1000),
        ramp=ramp_view(each),
        decisions=decisions_view(each),
    )


def query_of(surface: str) -> str:
    return f"surface={quote(surface.encode('utf-8', 'surrogatepass'), safe='')}"


def _agrees(each: SurfaceFacts) -> float:
    """Sort key for the surface that agrees least: agreement beyond noise, if that is known."""
    excess = excess_of(each.now).value
    value = each.now.recent.get("overlap", math.nan) - 1 if math.isnan(excess) else excess
    return math.inf if math.isnan(value) else value


def _headline(judged: Sequence[tuple[Judgement, SurfaceFacts]], bad: Sequence[SurfaceFacts]) -> str:
    if not judged:
        return "No surface is compared yet"
    surfaces = count(len(judged), "surface")
    if len(judged) == 1:
        ((judgement, each),) = judged
        return f"{clean(each.name, 40) or 'The surface'} {_ALONE[judgement.level]}"
    if bad:
        names = ", ".join(clean(each.name, 40) or "(no name)" for each in bad[:3])
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        verb = "is" if len(bad) == 1 else "are"
        return f"{len(bad)} of {surfaces} {verb} bad: {names}{more}"
    levels = [judgement.level for judgement, _ in judged]
    told = [
        f"{levels.count(level)} {words}"
        for level, words in ((Level.GOOD, "good"), (Level.CHECK, "to check"), (Level.NO_DATA, "without data"))
        if level in levels
    ]
    return f"No surface is bad: {', '.join(told)}"


def _lead(surfaces: Sequence[SurfaceView]) -> str:
    """With several surfaces: the worst one's first sentence, if it is bad or to be checked."""
    if len(surfaces) < 2 or surfaces[0].mark.style not in (Level.BAD, Level.CHECK):
        return ""
    return f"{surfaces[0].name}: {surfaces[0].sentences[0]}"


def _left_out(facts: PageFacts) -> list[str]:
    told = [f"{clean(why, NAME_CHARACTERS)} {pairs:,}" for why, pairs in facts.left_out.items() if pairs]
    return [f"Pairs that are not in the figures: {', '.join(told)}."] if told else []


def _surface(judgement: Judgement, each: SurfaceFacts, facts: PageFacts, scale: Scale) -> SurfaceView:
    level = judgement.level
    return SurfaceView(
        name=clean(each.name, NAME_CHARACTERS) or "(no name)",
        link=f"{PATH}?{query_of(each.name)}",
        mark=Mark(_SIGNS[level], _NAMES[level], level.replace(" ", "-")),
        sentences=tuple(
            clean(sentence, SENTENCE_CHARACTERS) for sentence in judgement.sentences[:_MOST_SENTENCES]
        ),
        mode="" if each.mode is None else str(each.mode),
        ramp_words=ramp_words(each),
        spark=small_line(each, scale, facts.unix_ms / 1000),
        tiles=_tiles(each.now),
    )


def _tiles(now: Tally) -> tuple[Tile, ...]:
    recent, excess = now.recent, excess_of(now)
    own, shared = recent.get("noise_overlap", math.nan), recent.get("overlap", math.nan)
    beyond = "" if math.isnan(excess.value) else f"{100 * excess.value:+.1f} points"
    bounds = "" if math.isnan(excess.low) else f"{100 * excess.low:+.1f} to {100 * excess.high:+.1f}"
    p99 = {side: milliseconds(quantile_ms(now.latencies[side], 0.99)) for side in ("model", "mesh")}
    failed = {side: failed_share(now, side) for side in ("model", "mesh")}
    return (
        Tile(
            "shared by model and mesh",
            "shared",
            percent(shared),
            f"mesh and itself {percent(own)}",
            lost_too_much(now),
        ),
        Tile("beyond noise", "beyond noise", beyond or NONE, bounds, lost_too_much(now)),
        Tile(
            "the model's filter violations",
            "violations",
            f"{now.violations['model']:,}" if now.checked["model"] else NONE,
            f"mesh {now.violations['mesh']:,}" if now.checked["mesh"] else "",
            now.violations["model"] > 0,
        ),
        Tile(
            "of the model's answers failed",
            "failed",
            percent(failed["model"]),
            f"mesh {percent(failed['mesh'])}",
            fails_too_often(now),
        ),
        Tile("p99 of the model", "p99", p99["model"], f"mesh {p99['mesh']}", is_slow(now)),
        Tile("pairs", "pairs", f"{sum(now.pairs.values()):,}", f"asked twice {now.again:,}"),
    )
