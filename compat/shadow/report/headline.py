"""The result of a comparison in sentences, the most important first. Their only foreign text is a slice's name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshfold.compat.shadow.comparison import DEPTHS, Figure, Rate, Slice, SurfaceComparison
from meshfold.compat.shadow.report.texts import clean, count, of_depth, percent
from meshfold.compat.shadow.report.words import cause_words, side_label

# Number of results to which a share refers where the length of answers is unknown.
_PER_CENT = 100
_DEEPEST = max(DEPTHS)
# Largest q value (false discovery rate, Benjamini and Hochberg) at which a slice or a share counts as different.
SIGNIFICANT_Q = 0.05
_SLICE_CHARACTERS = 60
_TOLD_CAUSES = 3


@dataclass(frozen=True)
class Headline:
    """The headline. title: the agreement. verdict: whether the difference exceeds the mesh's noise. more: other
    facts."""

    title: str
    verdict: str
    more: tuple[str, ...]


def headline(surface: SurfaceComparison) -> Headline:
    if not surface.pairs:
        return Headline("No pairs were compared.", "There is nothing to say about this surface.", ())
    agreement = agreement_of(surface)
    more = (rates_sentence(surface.rates), causes_sentence(surface.causes), slice_sentence(surface.slices))
    if agreement is None:
        return Headline("Agreement was not measured.", "", tuple(filter(None, more)))
    return Headline(_title(agreement), _verdict(agreement), tuple(filter(None, more)))


@dataclass(frozen=True)
class Agreement:
    """The overlap of a headline. depth: number of results that it covers; 0 where unknown."""

    figure: Figure
    depth: int

    def shared(self, share: float) -> str:
        """A share in words, such as "91 of 100"."""
        return f"{of_depth(share, self.depth)} of {self.depth}" if self.depth else percent(share)


def agreement_of(surface: SurfaceComparison) -> Agreement | None:
    """The agreement at the first 100 results, or the length of answers; else at a depth with figures."""
    overlaps = {f.name: f for f in surface.figures if f.name.startswith("overlap@")}
    # All answers may be shorter than the depth in a figure's name.
    longest = surface.curve[-1][0] if surface.curve else _DEEPEST
    for depth in (*sorted(DEPTHS, reverse=True), 0):
        figure = overlaps.get(f"overlap@{depth or 'K'}")
        if figure is not None and not math.isnan(figure.difference.value):
            return Agreement(figure, min(depth, longest))
    return None


def _title(agreement: Agreement) -> str:
    results = "results" if agreement.depth else "of the results"
    title = f"Model and mesh share {agreement.shared(agreement.figure.difference.value)} {results}"
    noise = agreement.figure.noise
    if noise is None or math.isnan(noise.value):
        return f"{title}."
    own = of_depth(noise.value, agreement.depth) if agreement.depth else percent(noise.value)
    return f"{title}; the mesh shares {own} with itself."


def _verdict(agreement: Agreement) -> str:
    """A sentence on whether the difference exceeds the mesh's noise."""
    excess = agreement.figure.excess
    if excess is None or math.isnan(excess.value):
        return "The mesh was not asked twice. How far it differs from itself is therefore unknown."
    of = agreement.depth or _PER_CENT
    value, low, high = of * excess.value, of * excess.low, of * excess.high
    amount = f"{abs(value):.1f} of {of} results"
    if math.isnan(low) or math.isnan(high):
        word = "fewer" if value < 0 else "more"
        return (
            f"The model shares {amount} {word} than the mesh does with itself. Too few users for an interval."
        )
    if high < 0:
        return f"Beyond the mesh's own noise, the model differs in {amount} (95% interval {-high:.1f} to {-low:.1f})."
    if low > 0:
        bounds = f"95% interval {low:.1f} to {high:.1f}"
        return f"The model agrees with the mesh better than the mesh with itself, by {amount} ({bounds})."
    return (
        f"No difference beyond the mesh's own noise is shown: {value:+.1f} of {of} results, "
        f"with a 95% interval from {low:+.1f} to {high:+.1f}."
    )


def rates_sentence(rates: Sequence[Rate]) -> str:
    """Sentences on violations and errors of each side."""
    violations = {rate.side: rate for rate in rates if rate.name == "violations"}
    errors = {rate.side: rate for rate in rates if rate.name == "errors"}
    sentences = []
    if violations:
        parts = [f"the {side_label(side)} {rate.count:,}" for side, rate in violations.items() if rate.count]
        sentences.append(
            f"Items that the filter does not admit: {' and '.join(parts)}."
            if parts
            else "No item violates a filter."
        )
    if parts := [f"the {side_label(side)} {rate.count:,}" for side, rate in errors.items() if rate.count]:
        sentences.append(f"Answers with an error: {' and '.join(parts)}.")
    return " ".join(sentences)


def causes_sentence(causes: Mapping[tuple[str, str], int]) -> str:
    """A sentence on the most frequent causes over both sides."""
    total = sum(causes.values())
    if not total:
        return ""
    by_cause: dict[str, int] = {}
    for (_, cause), items in causes.items():
        by_cause[cause] = by_cause.get(cause, 0) + items
    most = sorted(by_cause.items(), key=lambda entry: (-entry[1], entry[0]))[:_TOLD_CAUSES]
    parts = ", ".join(
        f"{cause_words(cause).name} {percent(items / total, 0)}" for cause, items in most if items
    )
    return f"Causes of {count(total, 'difference')}: {parts}."


def slice_sentence(slices: Sequence[Slice]) -> str:
    """A sentence on the slice that is significantly and most worse than the rest."""
    worse = [s for s in slices if s.q <= SIGNIFICANT_Q and s.difference_from_rest < 0]
    if not worse:
        return "No slice of users is shown to be worse than the others." if slices else ""
    worst = min(worse, key=lambda s: s.difference_from_rest)
    name, value = clean(worst.name, _SLICE_CHARACTERS), clean(worst.value, _SLICE_CHARACTERS)
    points = f"{-100 * worst.difference_from_rest:.1f}"
    return f"Worst slice: {name} = {value}, with an overlap {points} points below the others'."
