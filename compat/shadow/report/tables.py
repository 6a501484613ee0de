"""Tables of a page: cells with text, and for numbers the value to sort by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshfold.compat.shadow.comparison import Exposure, Figure, Interval, Latency, Rate, Slice
from meshfold.compat.shadow.report.headline import SIGNIFICANT_Q
from meshfold.compat.shadow.report.texts import (
    NONE,
    clean,
    difference_interval,
    interval,
    milliseconds,
    number,
    of_difference,
    of_measure,
    percent,
    ratio,
)
from meshfold.compat.shadow.report.words import (
    MEASURES,
    Measure,
    figure_label,
    measure_of,
    rate_label,
    side_label,
)

MOST_ROWS, MOST_EXPOSED = 40, 20
_NAME_CHARACTERS = 80
# Binary logarithm of the largest ratio on a bar of exposure: bars end at a quarter and at four times.
_MOST_RATIO_LOG2 = 2.0
_SHARE = MEASURES["overlap"]


@dataclass(frozen=True)
class Bar:
    """An interval on a line, in percent of the line's length from its left end."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Cell:
    """A cell of a table. value: sort key, None for text. more: a second line. mark: a class of style.css."""

    text: str
    value: float | None = None
    more: str = ""
    mark: str = ""
    bar: Bar | None = None


@dataclass(frozen=True)
class Table:
    """A table. columns: name and order of each: "number", "text" or "" for none. left_out: number of hidden rows."""

    caption: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int = 0


def figures_table(figures: Iterable[Figure]) -> Table:
    return _table(
        "Agreement of model and mesh, with 95% intervals over users",
        (
            "Measure",
            "Model and mesh+",
            "Mesh and itself+",
            "Beyond noise+",
            "Pairs+",
            "Asked again+",
            "Users+",
        ),
        [_figure(figure) for figure in figures],
    )


def rates_table(rates: Iterable[Rate]) -> Table:
    return _table(
        "Rare events of each side, with exact 95% bounds",
        ("Event", "Side", "Count+", "Of+", "Share+", "95% bounds-"),
        [
            (
                _name(rate_label(rate.name)),
                _name(side_label(rate.side)),
                Cell(
                    f"{rate.count:,}", rate.count, mark="bad" if rate.count and rate.side == "model" else ""
                ),
                Cell(f"{rate.of:,}", rate.of),
                Cell(
                    percent(rate.count / rate.of, 3) if rate.of else NONE,
                    rate.count / rate.of if rate.of else 0.0,
                ),
                Cell(f"{percent(rate.low, 3)} to {percent(rate.high, 3)}"),
            )
            for rate in rates
        ],
    )


def latency_table(latencies: Iterable[Latency]) -> Table:
    return _table(
        "Time to an answer",
        ("Side", "Answers+", "p50+", "p90+", "p99+"),
        [
            (
                _name(side_label(each.side)),
                Cell(f"{each.answers:,}", each.answers),
                *(Cell(milliseconds(q), q) for q in (each.p50, each.p90, each.p99)),
            )
            for each in latencies
        ],
    )


def exposure_table(exposure: Iterable[Exposure]) -> Table:
    """The table of exposure, in the given order, worst first."""
    return _table(
        "Share of results that hold a value of a field, the furthest from equal first",
        ("Field and value", "Among", "Mesh+", "Model+", "Ratio+", "¼ to 4 times-", "q+"),
        [
            (
                _name(each.value, more=each.field),
                Cell(f"first {each.depth}" if each.depth else "all results"),
                Cell(percent(each.mesh_share, 2), each.mesh_share),
                Cell(percent(each.model_share, 2), each.model_share),
                Cell(
                    ratio(each.ratio.value),
                    each.ratio.value,
                    more=_ratio_bounds(each.ratio),
                    mark="bad" if each.q <= SIGNIFICANT_Q else "",
                ),
                Cell("", bar=_bar(each.ratio)),
                _q(each.q),
            )
            for each in exposure
        ],
        MOST_EXPOSED,
    )


def slices_table(slices: Iterable[Slice]) -> Table:
    """The table of slices, in the given order, worst first."""
    return _table(
        "Groups of pairs, the worst first",
        ("Slice", "Users+", "Pairs+", "Overlap+", "Against the others+", "Beyond noise+", "q+"),
        [_slice(each) for each in slices],
    )


def counted_table(counted: Mapping[str, int]) -> Table:
    rows = [(_name(name), Cell(f"{items:,}", items)) for name, items in counted.items()]
    return _table("What is not in the figures, or is unusual", ("What", "How many+"), rows)


def _table(
    caption: str, columns: tuple[str, ...], rows: Sequence[tuple[Cell, ...]], most_rows: int = MOST_ROWS
) -> Table:
    """Makes a table. columns: names; a trailing plus marks numbers, a minus columns without an order."""
    kinds = {"+": "number", "-": ""}
    named = tuple((name.rstrip("+-"), kinds.get(name[-1], "text")) for name in columns)
    return Table(caption, named, tuple(rows[:most_rows]), max(0, len(rows) - most_rows))


def _figure(figure: Figure) -> tuple[Cell, ...]:
    measure = measure_of(figure.name)
    excess = figure.excess
    # A difference whose interval excludes zero.
    is_sure = excess is not None and (excess.low > 0 or excess.high < 0)
    return (
        _name(figure_label(figure.name)),
        _interval(figure.difference, measure),
        _interval(figure.noise, measure),
        _difference(excess, measure, "sure" if is_sure else ""),
        Cell(f"{figure.pairs:,}", figure.pairs),
        Cell(f"{figure.noise_pairs:,}", figure.noise_pairs),
        Cell(f"{figure.users:,}", figure.users),
    )


def _slice(each: Slice) -> tuple[Cell, ...]:
    is_worse = each.q <= SIGNIFICANT_Q and each.difference_from_rest < 0
    points = of_difference(each.difference_from_rest, _SHARE)
    return (
        _name(each.value, more=each.name),
        Cell(f"{each.users:,}", each.users),
        Cell(f"{each.pairs:,}", each.pairs),
        _interval(each.overlap, _SHARE),
        Cell(points, each.difference_from_rest, mark="bad" if is_worse else ""),
        _difference(each.excess, _SHARE),
        _q(each.q),
    )


def _interval(values: Interval | None, measure: Measure) -> Cell:
    if values is None:
        return Cell(NONE, math.nan)
    bounds = interval(values, measure)
    return Cell(of_measure(values.value, measure), values.value, more="" if bounds == NONE else bounds)


def _difference(values: Interval | None, measure: Measure, mark: str = "") -> Cell:
    if values is None:
        return Cell(NONE, math.nan)
    bounds = difference_interval(values, measure)
    return Cell(
        of_difference(values.value, measure), values.value, more="" if bounds == NONE else bounds, mark=mark
    )


def _name(text: str, more: str = "") -> Cell:
    return Cell(clean(text, _NAME_CHARACTERS) or "(empty)", more=clean(more, _NAME_CHARACTERS))


def _ratio_bounds(values: Interval) -> str:
    if math.isnan(values.low) or math.isnan(values.high):
        return ""
    return f"{values.low:.2f} to {ratio(values.high)}"


def _q(value: float) -> Cell:
    return Cell("under 0.001" if value < 0.001 else number(value), value)


def _log2(value: float) -> float:
    """The binary logarithm of a ratio, clipped to the ends of a bar; 0 where unknown."""
    if math.isnan(value):
        return 0.0
    if value <= 0:
        return -_MOST_RATIO_LOG2
    return max(-_MOST_RATIO_LOG2, min(_MOST_RATIO_LOG2, math.log2(value)))


def _bar(values: Interval) -> Bar | None:
    if math.isnan(values.value):
        return None
    low, value, high = (
        round(50 * (1 + _log2(each) / _MOST_RATIO_LOG2), 1)
        for each in (
            values.value if math.isnan(values.low) else values.low,
            values.value,
            values.value if math.isnan(values.high) else values.high,
        )
    )
    return Bar(low, value, high)
