"""Formats a comparison as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshfold.compat.shadow.comparison import Comparison, Figure, Rate, SurfaceComparison
from meshfold.compat.shadow.report.headline import SIGNIFICANT_Q, headline
from meshfold.compat.shadow.report.texts import (
    NONE,
    clean_for_terminal,
    count,
    difference_interval,
    interval,
    milliseconds,
    of_difference,
    of_measure,
    percent,
    period,
    ratio,
)
from meshfold.compat.shadow.report.words import cause_words, figure_label, measure_of, side_label

# Most surfaces and rows in the summary; the page has the rest.
MOST_SURFACES = 4
_RATES, _CAUSES, _SLICES, _EXPOSED, _COUNTED, _NOTES = 8, 4, 2, 2, 5, 5
_CHARACTERS = 100
_NAME_CHARACTERS = 40


def summary(comparison: Comparison) -> str:
    """The summary, about thirty lines for each surface, without a final line end."""
    surfaces = [surface for surface in comparison.surfaces if surface.pairs]
    lines = list(_whole(comparison))
    if not surfaces:
        lines.append("There are no pairs to compare: no request has answers of both sides.")
    for surface in surfaces[:MOST_SURFACES]:
        lines += ["", *_surface(surface)]
    if more := len(surfaces) - MOST_SURFACES:
        lines += ["", f"{count(more, 'more surface')} in the report."] if more > 0 else []
    return "\n".join(clean_for_terminal(line, 2 * _CHARACTERS) for line in lines)


def _whole(comparison: Comparison) -> Iterator[str]:
    pairs = count(sum(surface.pairs for surface in comparison.surfaces), "pair")
    when = period(comparison.from_unix_ms, comparison.to_unix_ms)
    yield f"{pairs}, {when}" if when else pairs
    counted = [f"{name} {number:,}" for name, number in comparison.counted.items()]
    if counted:
        more = f", and {len(counted) - _COUNTED} more kinds" if len(counted) > _COUNTED else ""
        yield f"left out, or unusual: {', '.join(counted[:_COUNTED])}{more}"
    yield from (f"note: {note}" for note in comparison.notes[:_NOTES])


def _surface(surface: SurfaceComparison) -> Iterator[str]:
    head = headline(surface)
    name = clean_for_terminal(surface.surface, _NAME_CHARACTERS) or "(no name)"
    asked_again = f", {surface.noise_pairs:,} of them asked again" if surface.noise_pairs else ""
    yield f"{name}: {count(surface.pairs, 'pair')} of {count(surface.users, 'user')}{asked_again}"
    yield from (f"  {sentence}" for sentence in (head.title, head.verdict, *head.more) if sentence)
    if surface.figures:
        yield from _table(
            ("measure", "model and mesh", "95%", "mesh and itself", "beyond noise", "95%"),
            [_figure(figure) for figure in _shown_figures(surface.figures)],
        )
    if rates := [rate for rate in surface.rates if rate.count][:_RATES]:
        yield from _table(("rate", "side", "count", "share", "95%"), [_rate(rate) for rate in rates])
    if surface.latencies:
        rows = [
            (side_label(latency.side), *(milliseconds(q) for q in (latency.p50, latency.p90, latency.p99)))
            for latency in surface.latencies
        ]
        yield from _table(("latency", "p50", "p90", "p99"), rows)
    yield from _causes(surface)
    yield from _slices(surface)
    yield from _exposure(surface)


def _shown_figures(figures: Sequence[Figure]) -> list[Figure]:
    """The figures to show: each measure at its greatest depth, and overlap@10."""
    by_measure = {
        figure.name.partition("@")[0]: figure for figure in figures if not figure.name.endswith("@K")
    }
    return [f for f in figures if f.name == "overlap@10" or f in by_measure.values()]


def _figure(figure: Figure) -> tuple[str, ...]:
    measure = measure_of(figure.name)
    noise, excess = figure.noise, figure.excess
    return (
        figure_label(figure.name),
        of_measure(figure.difference.value, measure),
        interval(figure.difference, measure),
        of_measure(noise.value, measure) if noise else NONE,
        of_difference(excess.value, measure) if excess else NONE,
        difference_interval(excess, measure) if excess else NONE,
    )


def _rate(rate: Rate) -> tuple[str, ...]:
    bounds = f"{percent(rate.low, 3)} to {percent(rate.high, 3)}"
    share = percent(rate.count / rate.of, 3) if rate.of else NONE
    return rate.name.replace("_", " "), side_label(rate.side), f"{rate.count:,} of {rate.of:,}", share, bounds


def _causes(surface: SurfaceComparison) -> Iterator[str]:
    total = sum(surface.causes.values())
    most = sorted(surface.causes.items(), key=lambda entry: (-entry[1], entry[0]))[:_CAUSES]
    rows = [
        (side_label(side), cause_words(cause).name, f"{items:,}", percent(items / total))
        for (side, cause), items in most
        if items
    ]
    if rows:
        yield from _table(("missing from", "cause", "items", "share"), rows)


def _slices(surface: SurfaceComparison) -> Iterator[str]:
    worse = [s for s in surface.slices if s.q <= SIGNIFICANT_Q and s.difference_from_rest < 0]
    rows = [
        (
            clean_for_terminal(f"{each.name} = {each.value}", _NAME_CHARACTERS),
            f"{each.users:,}",
            percent(each.overlap.value),
            of_difference(each.difference_from_rest, measure_of("overlap")),
        )
        for each in worse[:_SLICES]
    ]
    if rows:
        yield from _table(("worst slice", "users", "overlap", "against the others"), rows)


def _exposure(surface: SurfaceComparison) -> Iterator[str]:
    other = [each for each in surface.exposure if each.q <= SIGNIFICANT_Q]
    rows = [
        (
            clean_for_terminal(f"{each.field} = {each.value}", _NAME_CHARACTERS),
            f"first {each.depth}" if each.depth else "all results",
            percent(each.mesh_share),
            percent(each.model_share),
            ratio(each.ratio.value),
        )
        for each in other[:_EXPOSED]
    ]
    if rows:
        yield from _table(("exposure", "of", "mesh", "model", "ratio"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """An empty line, then a table whose first column is aligned left and the others right."""
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
