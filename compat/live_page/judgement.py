"""How well a surface does, as a level and in sentences, worst first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from meshfold.compat.gate.settings import GateSettings
from meshfold.compat.live_page.facts import SurfaceFacts
from meshfold.compat.migration.modes import Kind
from meshfold.compat.shadow.live.latency_steps import quantile_ms
from meshfold.compat.shadow.live.tally import Tally
from meshfold.compat.shadow.report.texts import count, milliseconds, percent

# The page applies the gate's default bounds to the latest pairs, without the gate's guarantee.
_LIMITS = GateSettings()
# Least answers for a p99, and least failures to report.
_LEAST_ANSWERS, _LEAST_FAILED = 100, 2


class Level(StrEnum):
    """Levels in the order of the page, worst first."""

    BAD = "bad"
    CHECK = "check"
    GOOD = "good"
    NO_DATA = "no data"


@dataclass(frozen=True)
class Judgement:
    level: Level
    sentences: tuple[str, ...]


def judge(facts: SurfaceFacts, span: str) -> Judgement:
    """span: the time covered by the facts' counts, in words."""
    bad = tuple(_bad(facts, span))
    check = tuple(_check(facts))
    if bad:
        return Judgement(Level.BAD, (*bad, *check))
    if not sum(facts.now.pairs.values()):
        return Judgement(Level.NO_DATA, (*check, _why_no_data(facts, span)))
    if check:
        return Judgement(Level.CHECK, check)
    return Judgement(Level.GOOD, (f"No difference beyond the margin of {_margin()}.",))


def agreement_words(now: Tally) -> str:
    """A part of a sentence."""
    overlap, noise = now.recent.get("overlap"), now.recent.get("noise_overlap")
    if overlap is None:
        return "Agreement was not measured"
    told = f"Model and mesh share {percent(overlap)} of the results"
    return told if noise is None else f"{told}, the mesh {percent(noise)} with itself"


@dataclass(frozen=True)
class Excess:
    """Overlap of model and mesh minus the mesh's with itself, with its 95 % interval; NaN if unknown."""

    value: float
    low: float
    high: float


def excess_of(now: Tally) -> Excess:
    value = now.recent.get("excess_overlap", math.nan)
    half = now.recent.get("noise_width", math.nan) / 2
    return Excess(value, value - half, value + half)


def lost_too_much(now: Tally) -> bool:
    """Whether the loss is surely above the margin."""
    return excess_of(now).high < -_LIMITS.margin


def fails_too_often(now: Tally) -> bool:
    mesh, model = (failed_share(now, side) for side in ("mesh", "model"))
    return model > mesh + _LIMITS.errors_pass and now.pairs["model_failed"] >= _LEAST_FAILED


def is_slow(now: Tally) -> bool:
    mesh_ms, model_ms = (quantile_ms(now.latencies[side], 0.99) for side in ("mesh", "model"))
    answers = min(sum(counts.values()) for counts in now.latencies.values())
    return answers >= _LEAST_ANSWERS and model_ms > _LIMITS.p99_ratio * mesh_ms + _LIMITS.p99_pass_ms


def failed_share(now: Tally, side: str) -> float:
    """The share of pairs that the side failed; NaN without pairs."""
    pairs = sum(now.pairs.values())
    return (now.pairs[f"{side}_failed"] + now.pairs["both_failed"]) / pairs if pairs else math.nan


def _bad(facts: SurfaceFacts, span: str) -> Iterator[str]:
    now, ramp = facts.now, facts.ramp
    if ramp is not None and ramp.state == "fallen back":
        yield f"The ramp fell back to {ramp.mode}: {ramp.reason}"
    elif ramp is not None and ramp.verdict is not None and ramp.verdict.decision == "no":
        yield from (f"The gate says no: {r.sentence}" for r in ramp.verdict.reasons if r.decision == "no")
    if violations := now.violations["model"]:
        items = count(now.checked["model"], "item")
        yield f"{violations:,} of {items} of the model violate the request's filter, {span}."
    if fails_too_often(now):
        mesh, model = (failed_share(now, side) for side in ("mesh", "model"))
        yield f"The model failed in {percent(model)} of the pairs, the mesh in {percent(mesh)}, {span}."
    if lost_too_much(now):
        yield f"{agreement_words(now)}: {_points(excess_of(now))}, beyond the margin of {_margin()}."


def _check(facts: SurfaceFacts) -> Iterator[str]:
    now, ramp = facts.now, facts.ramp
    if ramp is not None and ramp.state in ("paused", "aborted"):
        yield f"The ramp is {ramp.state}: {ramp.reason}"
    if not sum(now.pairs.values()):
        return
    if is_slow(now):
        mesh, model = (milliseconds(quantile_ms(now.latencies[side], 0.99)) for side in ("mesh", "model"))
        yield f"The model is slow: its p99 is {model}, the mesh's {mesh}."
    if not now.pairs["compared"]:
        yield "No pair has answers of both sides."
        return
    excess = excess_of(now)
    if math.isnan(excess.value):
        yield f"{agreement_words(now)}. How far the mesh differs from itself is not known yet."
    elif math.isnan(excess.low):
        yield f"{agreement_words(now)}. Too few users were asked twice to tell more."
    elif excess.low < -_LIMITS.margin <= excess.high:
        yield (
            f"{agreement_words(now)}: {_points(excess)}, not sure yet to be within the margin of {_margin()}."
        )


def _points(excess: Excess) -> str:
    return f"{100 * excess.value:+.1f} points ({100 * excess.low:+.1f} to {100 * excess.high:+.1f})"


def _margin() -> str:
    return f"{100 * _LIMITS.margin:g} points"


def _why_no_data(facts: SurfaceFacts, span: str) -> str:
    kind = None if facts.mode is None else facts.mode.kind
    if kind is Kind.MESH:
        return "Nothing is compared: in mode mesh the mesh alone is asked."
    if kind is Kind.ONLY:
        return "Nothing is compared: in mode only the model alone is asked."
    return f"No pairs {span}."
