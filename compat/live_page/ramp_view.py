"""A surface's ramp and the decisions about it, as the templates show them."""

from __future__ import annotations

from dataclasses import dataclass

from meshfold.compat.live_page.facts import SurfaceFacts
from meshfold.compat.shadow.report.texts import clean, count, moment

NAME_CHARACTERS, SENTENCE_CHARACTERS = 80, 400
_STEP_CHARACTERS, _MOST_REASONS, _MOST_DECISIONS = 20, 20, 10
_STATES = {
    "running": "The ramp is running",
    "paused": "The ramp is paused",
    "done": "The ramp is done",
    "fallen back": "The ramp fell back",
    "aborted": "The ramp was aborted",
}
# For each of the gate's answers: its words, the sign before them, and a class of live.css.
_WORDS = {
    "yes": ("yes", "✓", "good"),
    "no": ("no", "✕", "bad"),
    "not_enough": ("not enough yet", "!", "check"),
}


@dataclass(frozen=True)
class Mark:
    """A word with its sign. style: a class of live.css."""

    sign: str
    word: str
    style: str


@dataclass(frozen=True)
class RampView:
    """A ramp. words: for its state. steps: (name, "before", "now" or "after"). reasons: of the gate."""

    state: str
    words: str
    steps: tuple[tuple[str, str], ...]
    reason: str
    since: str
    hold_until: str
    verdict: Mark | None
    pairs: str
    reasons: tuple[tuple[Mark, str], ...]


@dataclass(frozen=True)
class DecisionView:
    when: str
    what: str
    who: str
    why: str


def ramp_words(each: SurfaceFacts) -> str:
    ramp = each.ramp
    return "" if ramp is None else f"ramp {ramp.state}, step {ramp.step + 1} of {len(ramp.steps)}"


def ramp_view(each: SurfaceFacts) -> RampView | None:
    ramp = each.ramp
    if ramp is None:
        return None
    verdict = ramp.verdict
    reasons = () if verdict is None else verdict.reasons[:_MOST_REASONS]
    return RampView(
        state=str(ramp.state),
        words=_STATES[ramp.state],
        steps=tuple(
            (
                clean(name, _STEP_CHARACTERS),
                "before" if at < ramp.step else "now" if at == ramp.step else "after",
            )
            for at, name in enumerate(ramp.steps)
        ),
        reason=clean(ramp.reason, SENTENCE_CHARACTERS),
        since=moment(ramp.since_unix_ms),
        hold_until=moment(ramp.hold_until_unix_ms) if ramp.state == "running" else "",
        verdict=None if verdict is None else _mark(verdict.decision),
        pairs="" if verdict is None else f"{count(verdict.pairs, 'pair')} of {count(verdict.users, 'user')}",
        reasons=tuple((_mark(each.decision), clean(each.sentence, SENTENCE_CHARACTERS)) for each in reasons),
    )


def decisions_view(each: SurfaceFacts) -> tuple[DecisionView, ...]:
    """Decisions of the ramp and of operators, newest first. A mode change by a ramp appears as its decision alone."""
    tags = tuple(decision.tag for decision in each.decisions)
    told = [
        (d.unix_ms, f"{d.action}: {d.before} to {d.after}", d.who or str(d.by), d.why) for d in each.decisions
    ]
    told += [
        (c.unix_ms, "all surfaces to the mesh" if c.kill else str(c.mode), c.who, c.why)
        for c in each.changes
        if not c.why.startswith(tags)
    ]
    told.sort(key=lambda entry: -entry[0])
    return tuple(
        DecisionView(
            moment(unix_ms),
            clean(what, NAME_CHARACTERS),
            clean(who, NAME_CHARACTERS),
            clean(why, SENTENCE_CHARACTERS),
        )
        for unix_ms, what, who, why in told[:_MOST_DECISIONS]
    )


def _mark(decision: str) -> Mark:
    word, sign, style = _WORDS[decision]
    return Mark(sign, word, style)
